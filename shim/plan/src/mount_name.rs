//! What the mount of an operation is called in errors.

use pidone_proto::{Op, Slot, limits};

use super::{Plan, Source};

/// Returns source and destination of the mount that the operation with this index, from 0, works
/// on: `/srv/data on /data`. `None` if it works on no mount, or on one that is attached nowhere.
#[must_use]
pub fn name(plan: &Plan, index: usize) -> Option<String> {
    let (part, first) = part_of(plan, index)?;
    let slot = slot(&part.operations().nth(index - first)?)?;
    let at = plan.operations().skip(index).find_map(|op| match op {
        Op::Attach { mount, at, .. } if mount == slot => Some(at.0.to_string_lossy()),
        _ => None,
    })?;
    let source = if slot.0 < limits::FIRST_MADE_SLOT {
        match part.sources.get(usize::from(slot.0))? {
            Source::Tree { path, .. } => path.to_string_lossy().into_owned(),
            _ => return None,
        }
    } else {
        let before = plan.operations().take(index + 1).filter_map(|op| match op {
            Op::MakeMount { into, fstype, .. } if into == slot => Some(fstype),
            Op::OpenTree { into, path, .. } if into == slot => Some(path),
            _ => None,
        });
        before.last()?.0.to_string_lossy().into_owned()
    };
    Some(format!("{source} on {at}"))
}

/// Returns the part with the operation, and the index of the first operation of that part.
fn part_of(plan: &Plan, index: usize) -> Option<(&super::Part, usize)> {
    let mut first = 0;
    for part in plan.parts() {
        let count = usize::try_from(part.operations).ok()?;
        if index < first + count {
            return Some((part, first));
        }
        first += count;
    }
    None
}

/// Returns the slot of the mount that an operation works on.
fn slot(op: &Op<'_>) -> Option<Slot> {
    match *op {
        Op::MakeMount { into, .. } | Op::OpenTree { into, .. } => Some(into),
        Op::SetAttributes { mount, .. } | Op::CopyUp { mount, .. } | Op::Attach { mount, .. } => {
            Some(mount)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pidone_proto::{Create, Strings, Text};

    use super::*;

    #[test]
    fn a_mount_is_named_by_source_and_destination() {
        let mut plan = Plan::default();
        let made = Slot(limits::FIRST_MADE_SLOT);
        let options = Strings::new(b"").unwrap();
        plan.push(Op::MakeMount { into: made, fstype: Text(c"tmpfs"), options, attributes: 0 });
        let attach =
            |mount, at| Op::Attach { mount, at: Text(at), create: Create::File, follow: true };
        plan.push(attach(made, c"/tmp"));
        let tree = Source::Tree { path: "/srv".into(), recursive: false, ids: None };
        let bound = plan.source(tree);
        plan.push(attach(bound, c"/data"));
        plan.push(Op::PivotRoot);
        let names: Vec<_> = (0..5).map(|index| name(&plan, index)).collect();
        let tmpfs = Some("tmpfs on /tmp".to_owned());
        assert_eq!(names, [tmpfs.clone(), tmpfs, Some("/srv on /data".into()), None, None]);
    }
}
