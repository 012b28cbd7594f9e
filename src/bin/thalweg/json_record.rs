//! A record as a line of JSON.
//!
//! Text is text; bytes that aren't UTF-8 are base64, and the field is named in `base64`.

use std::fmt;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thalweg::RecordView;

/// Writes records, one JSON object a line; keeps its buffer from record to record.
#[derive(Debug, Default)]
pub(crate) struct JsonRecords {
    line: Vec<u8>,
    /// The fields of the current record that are base64.
    encoded: Vec<String>,
    text: String,
}

impl JsonRecords {
    pub(crate) fn write(&mut self, out: &mut impl Write, partition: u32, record: &RecordView<'_>) -> io::Result<()> {
        let (offset, timestamp) = (record.offset(), record.timestamp());
        let place = format_args!(r#""partition":{partition},"offset":{offset},"timestamp":{timestamp}"#);
        self.write_fields(out, place, record.key(), record.value(), record.headers())
    }

    /// The same for a record from elsewhere; `place` are the fields that come first.
    pub(crate) fn write_fields<'a>(
        &mut self,
        out: &mut (impl Write + ?Sized),
        place: fmt::Arguments<'_>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> io::Result<()> {
        self.line.clear();
        self.encoded.clear();
        write!(self.line, r#"{{{place},"key":"#)?;
        self.bytes(key, || "key".to_owned())?;
        self.line.extend_from_slice(br#","value":"#);
        self.bytes(value, || "value".to_owned())?;
        self.line.extend_from_slice(br#","headers":["#);
        for (at, (name, value)) in headers.enumerate() {
            self.line.extend_from_slice(if at == 0 { b"[" } else { b",[" });
            serde_json::to_writer(&mut self.line, name)?;
            self.line.push(b',');
            self.bytes(value, || format!("headers[{at}]"))?;
            self.line.push(b']');
        }
        self.line.push(b']');
        if !self.encoded.is_empty() {
            self.line.extend_from_slice(br#","base64":"#);
            serde_json::to_writer(&mut self.line, &self.encoded)?;
        }
        self.line.extend_from_slice(b"}\n");
        out.write_all(&self.line)
    }

    fn bytes(&mut self, bytes: Option<&[u8]>, field: impl Fn() -> String) -> io::Result<()> {
        let Some(bytes) = bytes else {
            self.line.extend_from_slice(b"null");
            return Ok(());
        };
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Ok(serde_json::to_writer(&mut self.line, text)?);
        }
        self.encoded.push(field());
        self.text.clear();
        STANDARD.encode_string(bytes, &mut self.text);
        write!(self.line, "\"{}\"", self.text)
    }
}
