//! Validation errors under construction. The path of the field is built outwards from the field,
//! and only if there is an error.

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

/// The result of a check.
pub(super) type Check = Result<(), Fault>;

impl Fault {
    /// Returns a fault with a number, or with a value that is already text. The value is empty if
    /// the field alone says enough.
    pub(super) fn new(
        field: &str,
        value: impl Display,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: field.to_owned(), value: excerpt(&value.to_string()), reason: reason.into() }
    }

    /// Returns a fault with a string, which is quoted.
    pub(super) fn text(field: &str, value: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.to_owned(), value: quoted(value), reason: reason.into() }
    }

    /// Replaces the value by the whole text that it is a part of.
    pub(super) fn with_whole_value(mut self, text: &str) -> Self {
        self.value = quoted(text);
        self
    }

    /// Prepends the name of the object that holds the field.
    pub(super) fn under(mut self, parent: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => parent.to_owned(),
            field if field.starts_with('[') => format!("{parent}{field}"),
            field => format!("{parent}.{field}"),
        };
        self
    }
}

/// The names that fields have in another form of the configuration: first components of a path, and
/// the components after them.
pub(crate) struct Names {
    /// The names of first components.
    pub(crate) first: &'static [(&'static str, &'static str)],
    /// The names of the other components; a component whose name is `""` is left out.
    pub(crate) inner: &'static [(&'static str, &'static str)],
    /// The names of renamed fields that have another place.
    pub(crate) whole: &'static [(&'static str, &'static str)],
}

impl Fault {
    /// Replaces the names of the fields.
    pub(super) fn renamed(mut self, names: &Names) -> Self {
        let mut renamed = String::new();
        let mut table = names.first;
        for component in self.field.split('.') {
            let (name, index) = component.split_at(component.find('[').unwrap_or(component.len()));
            let known = table.iter().find(|(field, _)| *field == name);
            let name = known.map_or(name, |(_, other)| *other);
            if !name.is_empty() && !renamed.is_empty() {
                renamed.push('.');
            }
            renamed.push_str(name);
            renamed.push_str(index);
            table = names.inner;
        }
        let whole = names.whole.iter().find(|(field, _)| *field == renamed);
        self.field = whole.map_or(renamed, |(_, other)| (*other).to_owned());
        self
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::config(fault.field, fault.value, fault.reason)
    }
}

/// Checks every element of a list. A fault has the index of its element.
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
    fn path_is_built_outwards() {
        let fault = Fault::text("flags", "nosuidd", "unknown mount option").under("mounts[3]");
        assert_eq!(
            Error::from(fault).to_string(),
            "configuration `mounts[3].flags = \"nosuidd\"`: unknown mount option"
        );
        let fault = Fault::new("", 7, "odd").under("[1]").under("list");
        assert_eq!(Error::from(fault).to_string(), "configuration `list[1] = 7`: odd");
    }
}
