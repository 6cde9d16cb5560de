//! Fields of the JSON that describes an image, by name. What is absent or null is empty: Docker writes null for
//! what is empty.
//!
//! Derived types would read the same and take five times the room in the program.

use serde_json::Value;

use crate::error::{Error, printable};

/// A JSON file or a part of it.
#[derive(Clone, Copy)]
pub(super) struct Json<'a> {
    /// The file, for messages.
    name: &'a str,
    value: &'a Value,
}

/// Reads a whole file.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Value, Error> {
    // serde_json quotes what it found.
    serde_json::from_slice(bytes).map_err(|error| damaged(name, &printable(error.to_string().as_bytes())))
}

fn damaged(name: &str, what: &str) -> Error {
    Error::new(format!("{} is damaged: {what}", printable(name.as_bytes())))
}

impl<'a> Json<'a> {
    pub(super) fn new(name: &'a str, value: &'a Value) -> Self {
        Self { name, value }
    }

    fn wrong(self, key: &str, kind: &str) -> Error {
        damaged(self.name, &format!("{key} is no {kind}"))
    }

    /// The field; `None`: absent or null.
    fn field(self, key: &str) -> Result<Option<&'a Value>, Error> {
        let object = self.value.as_object().ok_or_else(|| damaged(self.name, "it is no object"))?;
        Ok(object.get(key).filter(|value| !value.is_null()))
    }

    /// A field with fields of its own.
    pub(super) fn part(self, key: &str) -> Result<Option<Self>, Error> {
        Ok(self.field(key)?.map(|value| Self { value, ..self }))
    }

    /// Text; empty where it is absent.
    pub(super) fn text(self, key: &str) -> Result<&'a str, Error> {
        match self.field(key)? {
            None => Ok(""),
            Some(value) => value.as_str().ok_or_else(|| self.wrong(key, "string")),
        }
    }

    /// Parts of a list.
    pub(super) fn list(self, key: &str) -> Result<Option<Vec<Self>>, Error> {
        self.field(key)?.map(|value| self.elements(value).ok_or_else(|| self.wrong(key, "list"))).transpose()
    }

    /// The parts of the whole, where it is a list.
    pub(super) fn parts(self) -> Result<Vec<Self>, Error> {
        self.elements(self.value).ok_or_else(|| damaged(self.name, "it is no list"))
    }

    fn elements(self, value: &'a Value) -> Option<Vec<Self>> {
        Some(value.as_array()?.iter().map(|value| Self { value, ..self }).collect())
    }

    /// A list of texts; empty where it is absent.
    pub(super) fn texts(self, key: &str) -> Result<Vec<String>, Error> {
        let list = self.list(key)?.unwrap_or_default();
        let texts = list.into_iter().map(|one| one.value.as_str().map(str::to_owned)).collect::<Option<_>>();
        texts.ok_or_else(|| self.wrong(key, "list of strings"))
    }
}
