//! Joins the blocks of a streamed result, each formatted as a document of its own, into the one document that a server
//! would send. It knows the layout of formats, and runs nothing.
//! <https://clickhouse.com/docs/interfaces/formats>

/// The end of an Arrow stream: a continuation mark and a length of nothing.
const ARROW_END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// How one format's blocks are put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Joiner {
    header: Header,
    first: bool,
    arrow_ended: bool,
}

/// What every block repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    Nothing,
    /// So many lines, whose line breaks inside are escaped.
    Lines(usize),
    /// So many lines, where a line break inside double quotes does not count.
    CsvLines(usize),
    /// A count and so many strings a column, each with its length before it.
    Binary(usize),
    /// Arrow's schema message.
    Arrow,
}

impl Joiner {
    /// The joiner of a format; `None` where its blocks cannot be joined and the result has to come in one piece.
    pub(super) fn for_format(format: &str) -> Option<Self> {
        use Header::{Arrow, Binary, CsvLines, Lines, Nothing};
        let header = match format.to_ascii_lowercase().as_str() {
            "tabseparated" | "tsv" | "tabseparatedraw" | "tsvraw" | "raw" | "csv" | "tskv" => Nothing,
            "jsoneachrow" | "jsonlines" | "ndjson" | "jsonstringseachrow" => Nothing,
            "jsoncompacteachrow" | "jsoncompactstringseachrow" => Nothing,
            "rowbinary" | "native" | "lineasstring" | "rawblob" | "null" => Nothing,
            "tabseparatedwithnames" | "tsvwithnames" => Lines(1),
            "tabseparatedwithnamesandtypes" | "tsvwithnamesandtypes" => Lines(2),
            "jsoncompacteachrowwithnames" | "jsoncompactstringseachrowwithnames" => Lines(1),
            "jsoncompacteachrowwithnamesandtypes" | "jsoncompactstringseachrowwithnamesandtypes" => Lines(2),
            "csvwithnames" => CsvLines(1),
            "csvwithnamesandtypes" => CsvLines(2),
            "rowbinarywithnames" => Binary(1),
            "rowbinarywithnamesandtypes" => Binary(2),
            "arrowstream" => Arrow,
            _ => return None,
        };
        Some(Self { header, first: true, arrow_ended: false })
    }

    /// What of this block belongs into the document.
    pub(super) fn join<'a>(&mut self, block: &'a [u8]) -> &'a [u8] {
        let first = std::mem::replace(&mut self.first, false);
        let body = match self.header {
            _ if first => block,
            Header::Nothing => block,
            Header::Lines(count) => &block[lines_end(block, count, false)..],
            Header::CsvLines(count) => &block[lines_end(block, count, true)..],
            Header::Binary(strings) => &block[binary_header_end(block, strings).unwrap_or(0)..],
            Header::Arrow => &block[arrow_schema_end(block).unwrap_or(0)..],
        };
        if self.header == Header::Arrow {
            self.arrow_ended = true;
            return body.strip_suffix(&ARROW_END).unwrap_or(body);
        }
        body
    }

    /// What comes after the last block.
    pub(super) fn end(&self) -> &'static [u8] {
        if self.arrow_ended { &ARROW_END } else { &[] }
    }
}

fn lines_end(block: &[u8], count: usize, quotes: bool) -> usize {
    let mut quoted = false;
    let mut lines = 0;
    for (index, &byte) in block.iter().enumerate() {
        match byte {
            b'"' if quotes => quoted = !quoted,
            b'\n' if !quoted => {
                lines += 1;
                if lines == count {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    block.len()
}

fn binary_header_end(block: &[u8], strings: usize) -> Option<usize> {
    let mut at = 0;
    let columns = read_varint(block, &mut at)?;
    for _ in 0..usize::try_from(columns).ok()?.checked_mul(strings)? {
        let length = usize::try_from(read_varint(block, &mut at)?).ok()?;
        at = at.checked_add(length).filter(|&end| end <= block.len())?;
    }
    Some(at)
}

/// An unsigned LEB128 number, as ClickHouse writes lengths.
pub(super) fn read_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The end of the first message, which is the schema and has no body.
/// <https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format>
fn arrow_schema_end(block: &[u8]) -> Option<usize> {
    let length: [u8; 4] = block.get(4..8)?.try_into().ok()?;
    let end = usize::try_from(u32::from_le_bytes(length)).ok()?.checked_add(8)?;
    (end <= block.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(format: &str, blocks: &[&[u8]]) -> Vec<u8> {
        let mut joiner = Joiner::for_format(format).unwrap();
        let mut out = Vec::new();
        for block in blocks {
            out.extend_from_slice(joiner.join(block));
        }
        out.extend_from_slice(joiner.end());
        out
    }

    #[test]
    fn headers_stand_once() {
        assert_eq!(joined("TSVWithNames", &[b"a\tb\n1\t2\n", b"a\tb\n3\t4\n"]), b"a\tb\n1\t2\n3\t4\n");
        assert_eq!(joined("CSVWithNames", &[b"\"a\n\"\"b\"\n1\n", b"\"a\n\"\"b\"\n2\n"]), b"\"a\n\"\"b\"\n1\n2\n");
        assert_eq!(
            joined("RowBinaryWithNamesAndTypes", &[b"\x01\x01a\x05UInt8\x01", b"\x01\x01a\x05UInt8\x02"]),
            b"\x01\x01a\x05UInt8\x01\x02"
        );
        assert_eq!(joined("JSONEachRow", &[b"{}\n", b"{}\n"]), b"{}\n{}\n");
    }

    #[test]
    fn formats_with_a_frame_are_not_joined() {
        for format in ["JSON", "Parquet", "PrettyCompact", "XML", "Values", "TSVRawWithNames"] {
            assert_eq!(Joiner::for_format(format), None, "{format}");
        }
    }
}
