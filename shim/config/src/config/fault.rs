//! A broken rule on its way out: the field's path is put together only when there is an error.

use std::borrow::Cow;
use std::fmt::Display;

use crate::error::Error;
use crate::text::{excerpt, quoted};

/// A field whose value breaks a rule.
#[derive(Debug)]
pub(super) struct Fault {
    field: String,
    value: String,
    reason: Cow<'static, str>,
}

/// What a check answers.
pub(super) type Check = Result<(), Fault>;

impl Fault {
    /// A number, or a value that is already text; `""` where the field alone says it.
    pub(super) fn new(
        field: &str,
        value: impl Display,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: field.to_owned(), value: excerpt(&value.to_string()), reason: reason.into() }
    }

    /// A string, which is quoted.
    pub(super) fn text(field: &str, value: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.to_owned(), value: quoted(value), reason: reason.into() }
    }

    /// The same fault with the text that the value is a part of.
    pub(super) fn of_whole(mut self, text: &str) -> Self {
        self.value = quoted(text);
        self
    }

    /// The same fault seen from the object that holds the field.
    pub(super) fn under(mut self, parent: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => parent.to_owned(),
            field if field.starts_with('[') => format!("{parent}{field}"),
            field => format!("{parent}.{field}"),
        };
        self
    }
}

/// The names of fields in another form of the configuration: those that may begin a path, and those
/// of the objects in it.
pub(crate) struct Names {
    /// The first component of a path.
    pub(crate) first: &'static [(&'static str, &'static str)],
    /// The others; `""` is left out.
    pub(crate) inner: &'static [(&'static str, &'static str)],
}

impl Fault {
    /// The same fault in other words for the fields.
    pub(super) fn renamed(mut self, names: &Names) -> Self {
        let mut renamed = String::new();
        let mut table = names.first;
        for component in self.field.split('.') {
            let (name, index) = component.split_at(component.find('[').unwrap_or(component.len()));
            let known = table.iter().find(|(own, _)| *own == name);
            let name = known.map_or(name, |(_, other)| *other);
            if !name.is_empty() && !renamed.is_empty() {
                renamed.push('.');
            }
            renamed.push_str(name);
            renamed.push_str(index);
            table = names.inner;
        }
        self.field = renamed;
        self
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::config(fault.field, fault.value, fault.reason)
    }
}

/// Checks every element of a list, and names the one that is wrong by its index.
pub(super) fn each<T>(field: &str, list: &[T], check: impl Fn(&T) -> Check) -> Check {
    for (index, item) in list.iter().enumerate() {
        check(item).map_err(|fault| fault.under(&format!("{field}[{index}]")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_grows_outwards() {
        let fault = Fault::text("flags", "nosuidd", "unknown mount option").under("mounts[3]");
        assert_eq!(
            Error::from(fault).to_string(),
            "configuration `mounts[3].flags = \"nosuidd\"`: unknown mount option"
        );
        let fault = Fault::new("", 7, "odd").under("[1]").under("list");
        assert_eq!(Error::from(fault).to_string(), "configuration `list[1] = 7`: odd");
    }
}
