//! Owns the reading of the few forms of `string.pattern` that the contract uses.
//!
//! Must not guess: any other form stops the build. Next: `emit.rs`.

/// A string of bytes of one class, with bounds on its length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// The pattern as declared, for messages.
    pub(crate) text: String,
    /// Whether a byte may appear.
    pub(crate) class: [bool; 256],
    /// The fewest bytes.
    pub(crate) bytes_min: usize,
    /// The most bytes.
    pub(crate) bytes_max: usize,
    /// Whether no byte at all is fine, whatever `bytes_min` says.
    pub(crate) is_empty_fine: bool,
}

/// Reads `^[class]{n}$`, `^[class]{m,n}$` and `^([class]{n})?$`.
///
/// # Errors
///
/// Says which part is of another form.
pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
    let refuse = |what: &str| format!("pattern `{text}`: {what}; extend build/pattern.rs");
    let body = text
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'))
        .ok_or_else(|| refuse("is not anchored at both ends"))?;
    let optional = body
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(")?"));
    let (class, count) = optional
        .unwrap_or(body)
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix('}'))
        .and_then(|rest| rest.split_once("]{"))
        .ok_or_else(|| refuse("is not one class with a count"))?;
    let (low, high) = count.split_once(',').unwrap_or((count, count));
    let number = |digits: &str| digits.parse().map_err(|_| refuse("has no plain count"));
    Ok(Pattern {
        text: text.to_owned(),
        class: parse_class(class).ok_or_else(|| refuse("has an unknown class"))?,
        bytes_min: number(low)?,
        bytes_max: number(high)?,
        is_empty_fine: optional.is_some(),
    })
}

/// Reads single ASCII characters and ranges; a `-` stands for itself at the end.
fn parse_class(class: &str) -> Option<[bool; 256]> {
    let bytes = class.as_bytes();
    if bytes.is_empty() || bytes[0] == b'^' || bytes.contains(&b'\\') || !class.is_ascii() {
        return None;
    }
    let mut table = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        let is_range = at + 2 < bytes.len() && bytes[at + 1] == b'-';
        let last = if is_range { bytes[at + 2] } else { bytes[at] };
        for byte in bytes[at]..=last {
            table[usize::from(byte)] = true;
        }
        at += if is_range { 3 } else { 1 };
    }
    Some(table)
}
