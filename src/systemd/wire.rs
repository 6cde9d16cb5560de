//! D-Bus messages as bytes, as far as talking to systemd needs them: written in this machine's byte order, read in
//! it as well. Pure.
//!
//! Source: the D-Bus Specification, "Marshaling (Wire Format)" and "Message Format".

/// A message says in its first byte which order its numbers are in.
const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

/// Longer ones are none that we asked for.
const LONGEST: usize = 1 << 20;

/// Values, one behind the other, each at a multiple of its size.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// `u`.
    pub fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_ne_bytes());
    }

    /// `t`.
    pub fn long(&mut self, number: u64) {
        self.align(8);
        self.0.extend(number.to_ne_bytes());
    }

    /// `b`.
    pub fn truth(&mut self, is: bool) {
        self.number(u32::from(is));
    }

    /// `s`, and `o`, a path. What is behind a NUL byte cannot be said, and is not.
    pub fn text(&mut self, text: &str) {
        let text = text.split('\0').next().unwrap_or_default();
        self.number(text.len() as u32);
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    /// `g`.
    pub fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    /// `a…`, of elements that stand at multiples of `align`.
    pub fn array(&mut self, align: usize, write: impl FnOnce(&mut Self)) {
        self.number(0);
        let length_at = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        write(self);
        let length = (self.0.len() - start) as u32;
        if let Some(slot) = self.0.get_mut(length_at..length_at + 4) {
            slot.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// `(sv)`: a property, with a value of this signature.
    pub fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.text(name);
        self.signature(signature);
        value(self);
    }

    fn field(&mut self, code: u8, signature: &str, value: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        if signature == "g" { self.signature(value) } else { self.text(value) }
    }
}

/// A call of a method.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The bus name.
    pub to: &'a str,
    /// The object.
    pub path: &'a str,
    /// Whose method.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// What the body holds.
    pub signature: &'a str,
}

impl Call<'_> {
    /// The message, with this number, which its answer names.
    #[must_use]
    pub fn message(&self, serial: u32, body: &Writer) -> Vec<u8> {
        let mut out = Writer(vec![ORDER, CALL, 0, 1]);
        out.number(body.0.len() as u32);
        out.number(serial);
        out.array(8, |out| {
            out.field(1, "o", self.path);
            out.field(2, "s", self.interface);
            out.field(3, "s", self.member);
            out.field(6, "s", self.to);
            if !self.signature.is_empty() {
                out.field(8, "g", self.signature);
            }
        });
        out.align(8);
        out.0.extend(&body.0);
        out.0
    }
}

const CALL: u8 = 1;

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer to the call with this number.
    Answer(u32),
    /// It failed, by this name.
    Failure(u32, String),
    /// Something has happened.
    Signal(String),
    /// Nothing for us.
    Other,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    body: Vec<u8>,
}

/// This is no message that we understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

/// How long the message is that begins with these bytes; `None`: too few of them are there to tell.
///
/// # Errors
/// It is none.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Garbled> {
    let Some(head) = bytes.get(..16) else { return Ok(None) };
    let mut reader = Reader { bytes: head, at: 4 };
    let (body, _, fields) = (reader.number()?, reader.number()?, reader.number()?);
    let length = (16 + fields as usize).next_multiple_of(8).saturating_add(body as usize);
    if head.first() != Some(&ORDER) || length > LONGEST {
        return Err(Garbled);
    }
    Ok(Some(length))
}

impl Message {
    /// Reads one; `bytes` is as long as [`length`] says.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Garbled> {
        let kind = *bytes.get(1).ok_or(Garbled)?;
        let mut reader = Reader { bytes, at: 12 };
        let end = 16 + reader.number()? as usize;
        let (mut answers, mut member, mut error) = (0, "", "");
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?) {
                (3, "s") => member = reader.text()?,
                (4, "s") => error = reader.text()?,
                (5, "u") => answers = reader.number()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.number()?),
                _ => return Err(Garbled),
            }
        }
        reader.align(8);
        let kind = match kind {
            2 => Kind::Answer(answers),
            3 => Kind::Failure(answers, error.to_owned()),
            4 => Kind::Signal(member.to_owned()),
            _ => Kind::Other,
        };
        Ok(Self { kind, body: bytes.get(reader.at..).ok_or(Garbled)?.to_vec() })
    }

    /// The values in it, from the first on.
    #[must_use]
    pub fn values(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

/// Takes values from bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Garbled> {
        let end = self.at.checked_add(length).ok_or(Garbled)?;
        let taken = self.bytes.get(self.at..end).ok_or(Garbled)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Garbled> {
        self.take(1)?.first().copied().ok_or(Garbled)
    }

    /// `u`.
    ///
    /// # Errors
    /// There is none.
    pub fn number(&mut self) -> Result<u32, Garbled> {
        self.align(4);
        self.take(4)?.try_into().map(u32::from_ne_bytes).map_err(|_| Garbled)
    }

    /// `t`.
    ///
    /// # Errors
    /// There is none.
    pub fn long(&mut self) -> Result<u64, Garbled> {
        self.align(8);
        self.take(8)?.try_into().map(u64::from_ne_bytes).map_err(|_| Garbled)
    }

    /// `s` or `o`.
    ///
    /// # Errors
    /// There is none.
    pub fn text(&mut self) -> Result<&'a str, Garbled> {
        let length = self.number()? as usize;
        self.ended(length)
    }

    /// `g`.
    ///
    /// # Errors
    /// There is none.
    pub fn signature(&mut self) -> Result<&'a str, Garbled> {
        let length = self.byte()? as usize;
        self.ended(length)
    }

    fn ended(&mut self, length: usize) -> Result<&'a str, Garbled> {
        let text = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(text).map_err(|_| Garbled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Call = Call {
        to: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "Hello",
        signature: "",
    };

    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_as_the_specification_has_it() {
        let bytes = HELLO.message(1, &Writer::default());
        let expected: &[u8] = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0\
            \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
            \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
            \x03\x01s\0\x05\0\0\0Hello\0\0\0\
            \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0";
        assert_eq!(bytes, expected);
        assert_eq!(length(&bytes), Ok(Some(bytes.len())));
    }

    #[test]
    fn what_was_written_is_read() {
        let mut body = Writer::default();
        body.text("unit");
        body.array(8, |out| {
            out.property("Delegate", "b", |out| out.truth(true));
            out.property("PIDs", "au", |out| {
                out.array(4, |out| [7, 8].into_iter().for_each(|n| out.number(n)))
            });
        });
        let bytes = Call { signature: "sa(sv)", ..HELLO }.message(9, &body);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Other);
        let mut values = message.values();
        assert_eq!((values.text(), values.number()), (Ok("unit"), Ok(52)));
        values.align(8);
        assert_eq!((values.text(), values.signature(), values.number()), (Ok("Delegate"), Ok("b"), Ok(1)));
        values.align(8);
        assert_eq!((values.text(), values.signature()), (Ok("PIDs"), Ok("au")));
        assert_eq!((values.number(), values.number(), values.number()), (Ok(8), Ok(7), Ok(8)));
        assert_eq!(values.number(), Err(Garbled));
    }

    #[test]
    fn nothing_that_comes_makes_us_fall_over() {
        let good = Call { signature: "s", ..HELLO }.message(3, &{
            let mut body = Writer::default();
            body.text("x");
            body
        });
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                if let Ok(message) = Message::parse(&bad) {
                    assert!(
                        message.values().text().is_ok_and(|text| text.len() < bad.len())
                            || message.values().text().is_err()
                    );
                    assert!(message.body.len() < bad.len());
                }
                assert!(length(&bad).is_err() || length(&bad).is_ok_and(|length| length.is_some()));
            }
            assert!(Message::parse(&good[..at]).is_err() || at > 16);
        }
        let mut long = good;
        long[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(length(&long), Err(Garbled));
        assert_eq!(length(b"HTTP/1.1 400 Bad"), Err(Garbled));
        assert_eq!(length(b"l"), Ok(None));
    }
}
