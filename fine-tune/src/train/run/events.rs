//! TensorBoard's event files: records of TensorFlow's `TFRecord` format, each an `Event` protobuf.
//!
//! A record is its length (u64), the masked CRC of that, the bytes, and their masked CRC, all little-endian. The CRC is
//! Castagnoli's (RFC 3720, appendix B.4).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::error::{Error, Result};

/// What TensorBoard calls the version of its file format.
const VERSION: &str = "brain.Event:2";

/// An event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

/// `tensorflow.Event`, as far as it is used here.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// `tensorflow.SessionLog`.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.START`: TensorBoard then forgets what earlier files say of this step and later ones.
const START: i32 = 1;

impl EventFile {
    /// Begins a file in `folder` for the steps after `step`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(folder: &Path, step: u64) -> Result<EventFile> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        // Files are read in the order of their names.
        let name = format!(
            "events.out.tfevents.{:010}.{:09}.furlong",
            now.as_secs(),
            now.subsec_nanos()
        );
        let path = folder.join(name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let file = file.map_err(Error::io(&path))?;
        let mut events = EventFile { path, file };
        events.write(Event {
            file_version: Some(VERSION.to_owned()),
            ..event(0)
        })?;
        if step > 0 {
            events.write(Event {
                session_log: Some(SessionLog { status: START }),
                ..event(step + 1)
            })?;
        }
        Ok(events)
    }

    /// Adds figures of a step.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add(&mut self, step: u64, figures: &[(&str, f64)]) -> Result<()> {
        let value = |&(tag, value): &(&str, f64)| Value {
            tag: tag.to_owned(),
            simple_value: value as f32,
        };
        let value = figures.iter().map(value).collect();
        self.write(Event {
            summary: Some(Summary { value }),
            ..event(step)
        })
    }

    fn write(&mut self, event: Event) -> Result<()> {
        self.file
            .write_all(&record(&event.encode_to_vec()))
            .map_err(Error::io(&self.path))
    }
}

fn event(step: u64) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Event {
        wall_time: now.unwrap_or_default().as_secs_f64(),
        step: i64::try_from(step).unwrap_or(i64::MAX),
        ..Event::default()
    }
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend(length);
    record.extend(masked(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked(bytes).to_le_bytes());
    record
}

/// The CRC as TFRecord stores it.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's CRC, bit by bit: records have a hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_the_standards() {
        // RFC 3720, appendix B.4: 32 bytes of 0, 32 bytes of 1s, and 0 to 31.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }

    /// A file that TensorFlow's own writer made:
    /// `w = tf.io.TFRecordWriter(path); w.write(b"furlong")` is these bytes.
    #[test]
    fn a_file_reads_back_record_by_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 7).unwrap();
        events.add(8, &[("loss", 1.5), ("rate", 0.25)]).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let mut rest = bytes.as_slice();
        let mut read = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let count = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (crc, after) = after.split_at(4);
            assert_eq!(crc, masked(length).to_le_bytes());
            let (body, after) = after.split_at(count);
            let (crc, after) = after.split_at(4);
            assert_eq!(crc, masked(body).to_le_bytes());
            read.push(Event::decode(body).unwrap());
            rest = after;
        }
        assert_eq!(read[0].file_version.as_deref(), Some(VERSION));
        assert_eq!(read[1].session_log, Some(SessionLog { status: START }));
        assert_eq!((read[1].step, read[2].step), (8, 8));
        let values = &read[2].summary.as_ref().unwrap().value;
        assert_eq!(
            (values[0].tag.as_str(), values[0].simple_value),
            ("loss", 1.5)
        );
        assert_eq!(values.len(), 2);
    }
}
