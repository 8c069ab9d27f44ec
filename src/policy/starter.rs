//! A policy to begin with.

use super::resolve::read_text;

const STARTER: &str = include_str!("starter.yaml");

/// The place of the name in it.
const NAME: &str = "#name: shop\n";

/// A valid policy with comments, for `check` and an editor; without a name it has that of its
/// file.
///
/// # Errors
/// What is wrong with the name.
pub fn starter(name: Option<&str>) -> Result<String, String> {
    let Some(name) = name else { return Ok(STARTER.to_owned()) };
    let text = STARTER.replace(NAME, &format!("name: {name}\n"));
    match read_text(&text) {
        Ok(set) if set.policies.iter().map(|it| it.name.as_str()).eq([name]) => Ok(text),
        _ => Err(format!("`{name}` cannot name a policy: use letters, digits, `-`, `_` and `.`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same text without the # before settings, of these lines only.
    fn uncommented(chosen: impl Fn(usize) -> bool) -> String {
        let line = |(index, line): (usize, &str)| match line.split_once('#') {
            Some((indent, setting)) if chosen(index) && is_setting(line) => {
                format!("{indent}{setting}\n")
            }
            _ => format!("{line}\n"),
        };
        STARTER.lines().enumerate().map(line).collect()
    }

    fn is_setting(line: &str) -> bool {
        line.trim_start().strip_prefix('#').is_some_and(|it| !it.starts_with(' ') && !it.is_empty())
    }

    #[test]
    fn it_is_valid_as_it_is_and_with_any_or_every_setting() {
        let settings: Vec<usize> = STARTER
            .lines()
            .enumerate()
            .filter_map(|(index, line)| is_setting(line).then_some(index))
            .collect();
        assert!(settings.len() > 8);
        assert!(read_text(STARTER).is_ok());
        for index in settings {
            let text = uncommented(|other| other == index);
            assert!(read_text(&text).is_ok(), "{:?}\n{text}", read_text(&text));
        }
        let all = uncommented(|_| true);
        assert!(read_text(&all).is_ok(), "{:?}\n{all}", read_text(&all));
    }

    #[test]
    fn it_takes_names_and_no_other_yaml() {
        assert!(STARTER.contains(NAME));
        let named = starter(Some("web-1.site")).unwrap();
        assert_eq!(read_text(&named).unwrap().policies[0].name, "web-1.site");
        for bad in ["", "a b", "a/b", "[a]", "#a", "a\nweight: 1", "'a'", "&a", "a: b", "~"] {
            assert!(starter(Some(bad)).is_err(), "{bad}");
        }
    }
}
