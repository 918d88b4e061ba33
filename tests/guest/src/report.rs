//! Everything that can be seen, in one object.

use core::ffi::CStr;

use crate::command::Surroundings;
use crate::{capability, descriptor, device, identity, json, mount, process, signal, terminal};

/// Prints the report.
pub(crate) fn print<'a>(
    surroundings: &Surroundings<
        impl Iterator<Item = &'a CStr> + Clone,
        impl Iterator<Item = &'a CStr> + Clone,
    >,
) {
    json::line(|json| {
        json.object(|json| {
            json.key("args").array(|json| {
                surroundings.arguments.clone().for_each(|text| json.string(text.to_bytes()));
            });
            json.key("env").array(|json| {
                surroundings.environment.clone().for_each(|text| json.string(text.to_bytes()));
            });
            // Before anything else is opened, so that a descriptor of this program is not seen.
            descriptor::report(json);
            identity::report(json);
            capability::report(json);
            process::report(json);
            signal::report(json);
            terminal::report(json);
            mount::report(json);
            device::report(json);
        });
    });
}
