//! Text that fits: cleaned, cut and wrapped by the columns it takes on a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Without what could move the cursor, hide text or turn it around: reasons come from the network.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|letter| if is_visible(letter) { letter } else { '·' }).collect()
}

/// Controls, and the marks that change the direction of text or take no room.
fn is_visible(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// The first columns of a text, with `…` at the end if there was more.
pub(super) fn head(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    text[..fitting(text, room)].to_owned() + "…"
}

/// The last columns of a text, with `…` before them if there was more: of two long addresses these
/// differ.
pub(super) fn tail(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(mut room) = columns.checked_sub(1) else { return String::new() };
    let mut start = text.len();
    for (at, letter) in text.char_indices().rev() {
        let Some(left) = room.checked_sub(letter.width().unwrap_or(0)) else { break };
        (room, start) = (left, at);
    }
    format!("…{}", &text[start..])
}

/// Filled up with blanks.
pub(super) fn padded(text: &str, columns: usize) -> String {
    text.to_owned() + &" ".repeat(columns.saturating_sub(width(text)))
}

/// A text in lines, broken at blanks where there are some. What follows the first line is indented
/// as that is, and by two more.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let indent = text.len() - text.trim_start_matches(' ').len();
    let indent = " ".repeat((indent + 2).min(columns / 2));
    let mut lines = Vec::new();
    let mut rest = text.trim_end();
    let mut before = "";
    loop {
        let room = columns.saturating_sub(before.len());
        if width(rest) <= room {
            lines.push(format!("{before}{rest}"));
            return lines;
        }
        let (line, more) = rest.split_at(breaking(rest, room));
        lines.push(format!("{before}{}", line.trim_end()));
        rest = more.trim_start();
        before = &indent;
    }
}

/// At most so many lines of it; the last one says if there was more.
pub(super) fn wrap_most(text: &str, columns: usize, most: usize) -> Vec<String> {
    let mut lines = wrap(text, columns);
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = head(&format!("{last} …"), columns);
            if !last.ends_with('…') {
                last.push('…');
            }
        }
    }
    lines
}

/// Where to break: after the last blank that fits, or in a word that is longer than the room. At
/// least one letter fits everywhere, so that it comes to an end.
fn breaking(text: &str, room: usize) -> usize {
    let fits = fitting(text, room);
    let words = text.len() - text.trim_start_matches(' ').len();
    match text[..fits].rfind(' ') {
        Some(blank) if blank > words => blank + 1,
        _ => fits.max(text.chars().next().map_or(0, char::len_utf8)),
    }
}

/// How many bytes of a text take at most so many columns.
fn fitting(text: &str, columns: usize) -> usize {
    let mut room = columns;
    for (at, letter) in text.char_indices() {
        match room.checked_sub(letter.width().unwrap_or(0)) {
            Some(left) => room = left,
            None => return at,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_moves_or_hides_is_shown_as_a_dot() {
        assert_eq!(clean("a\x1b[2Jb\r\n\u{202e}c\u{9b}"), "a·[2Jb···c·");
        assert_eq!(clean("größer 日本 …"), "größer 日本 …");
    }

    #[test]
    fn long_texts_are_cut_at_either_end() {
        assert_eq!(head("status 404", 10), "status 404");
        assert_eq!(head("status 404", 7), "status…");
        assert_eq!(head("日本語", 4), "日…");
        assert_eq!(tail("[2001:db8::10]:8080", 8), "…0]:8080");
        assert_eq!(tail("日本語", 4), "…語");
        assert_eq!((head("ab", 0), tail("ab", 0)), (String::new(), String::new()));
    }

    #[test]
    fn wrapped_at_blanks_or_in_long_words() {
        assert_eq!(wrap("  last probe 3ms ago", 14), ["  last probe", "    3ms ago"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "  ef", "  gh", "  ij"]);
        assert_eq!(wrap_most("one two three four", 8, 2), ["one two", "  three…"]);
        assert_eq!(wrap("", 4), [""]);
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_its_room(text in ".{0,60}", columns in 4_usize..30) {
            let text = clean(&text);
            let mut all = wrap(&text, columns);
            all.extend(wrap_most(&text, columns, 2));
            all.extend([head(&text, columns), tail(&text, columns)]);
            for line in all {
                prop_assert!(width(&line) <= columns, "{line:?}");
            }
        }
    }
}
