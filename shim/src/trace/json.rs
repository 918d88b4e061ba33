//! Serializes a trace to an object.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::{Span, Trace};

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Trace", 6)?;
        object.serialize_field("begin", &self.begin)?;
        object.serialize_field("total", &nanoseconds(self.total()))?;
        let strategy =
            self.mounts().map(|mounts| if mounts.template { "template" } else { "host" });
        object.serialize_field("strategy", &strategy)?;
        let reason = self.mounts().and_then(|mounts| mounts.reason.as_deref());
        object.serialize_field("reason", &reason)?;
        object.serialize_field("error", &self.error())?;
        object.serialize_field("spans", &self.spans())?;
        object.end()
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Span", 7)?;
        object.serialize_field("who", self.who.name())?;
        object.serialize_field("name", self.name)?;
        object.serialize_field("object", &self.object)?;
        object.serialize_field("number", &self.number)?;
        object.serialize_field("start", &nanoseconds(self.start))?;
        object.serialize_field("duration", &nanoseconds(self.duration))?;
        object.serialize_field("failed", &self.failed)?;
        object.end()
    }
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::sample;

    #[test]
    fn the_object_has_every_span() {
        let value = serde_json::to_value(sample()).unwrap();
        let spans = value["spans"].as_array().unwrap();
        assert_eq!(spans.len(), 6);
        assert_eq!(
            spans[0],
            json!({
                "who": "host", "name": "read configuration", "object": "/b <&\u{1b}\"'>",
                "number": null, "start": 0, "duration": 100_000, "failed": false,
            })
        );
        assert_eq!(spans[4]["name"], "umask");
        assert_eq!(spans[4]["number"], 1);
        assert_eq!(value["begin"], 1_000_000_000);
        assert_eq!(value["total"], 1_000_000);
        assert_eq!(value["strategy"], "host");
        assert_eq!(value["reason"], "asked for");
        assert_eq!(value["error"], json!(null));
    }
}
