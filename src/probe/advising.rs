//! What a target advises over time: what it says again, leaves out, or does not say any more.
//!
//! Pure; time comes in. What outlives the process is [`super::knowledge`]'s to say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::advice::{Advice, Heard, Said};

/// What a target was heard to advise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advising {
    /// The last that was said, with what it left as it was.
    pub spoken: Option<Spoken>,
    /// Why the last attempt advised nothing, where it should have.
    pub trouble: Option<Arc<str>>,
    /// When that began.
    pub troubled_since: Option<Instant>,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// What.
    pub said: Said,
    /// When, for the last time.
    pub at: Instant,
    /// When it expires, or has.
    pub until: Instant,
    /// Whether it has not expired yet.
    pub counts: bool,
    /// Whether it would have expired, were it not that nobody could have said it again.
    pub spared: bool,
}

/// What one attempt changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Whether the advice that counts is another one now.
    pub changed: bool,
    /// Why nothing is heard any more, when that begins.
    pub trouble: Option<Arc<str>>,
}

impl Advising {
    /// Takes in what was heard; it counts for so long.
    pub fn hear(&mut self, heard: Heard, lasts: Duration, now: Instant) -> News {
        let said = match heard {
            Heard::All(said) => said,
            Heard::More(said) => match self.spoken.as_ref().filter(|spoken| spoken.counts) {
                Some(spoken) => said.after(&spoken.said),
                None => said,
            },
            Heard::Nothing(why) => return self.miss(why, now),
        };
        let before = self.advice();
        (self.trouble, self.troubled_since) = (None, None);
        self.spoken =
            Some(Spoken { said, at: now, until: now + lasts, counts: true, spared: false });
        News { changed: self.advice() != before, trouble: None }
    }

    /// Notes that nothing was heard: what was said before counts until it expires.
    pub fn miss(&mut self, why: Arc<str>, now: Instant) -> News {
        self.troubled_since.get_or_insert(now);
        let begins = self.trouble.replace(Arc::clone(&why)).is_none();
        News { changed: false, trouble: begins.then_some(why) }
    }

    /// Lets what is too old count no more; true if that changes anything. While silence may be the
    /// director's own fault it counts as long anew, and once more when that is over.
    pub fn expire(&mut self, in_doubt: bool, lasts: Duration, now: Instant) -> bool {
        let before = self.advice();
        let due = self.spoken.as_mut().filter(|spoken| spoken.counts && spoken.until <= now);
        if let Some(spoken) = due {
            spoken.counts = in_doubt || spoken.spared;
            spoken.spared = in_doubt;
            spoken.until = if spoken.counts { now + lasts } else { spoken.until };
        }
        self.advice() != before
    }

    /// When [`Self::expire`] has something to do.
    pub fn expires(&self) -> Option<Instant> {
        self.spoken.as_ref().filter(|spoken| spoken.counts).map(|spoken| spoken.until)
    }

    /// Since when nothing is heard, as far as that is known: the last word at the earliest.
    pub fn silent_since(&self) -> Option<Instant> {
        self.troubled_since.or_else(|| self.spoken.as_ref().map(|spoken| spoken.at))
    }

    /// The advice that counts.
    pub fn advice(&self) -> Option<Advice> {
        self.spoken.as_ref().filter(|spoken| spoken.counts)?.said.advice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_add_to_what_they_said() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let lasts = Duration::from_secs(10);
        let mut advising = Advising::default();
        let mut at = now;
        for (line, shown, changed) in [
            ("75%", "75%", true),
            ("drain", "75% drain", true),
            ("75%", "75% drain", false),
            ("up 50%", "50% drain up", true),
            ("ready", "50% ready up", true),
            ("failed", "50% ready it says failed", true),
            ("100%", "100% ready it says failed", true),
            ("up", "100% ready up", true),
        ] {
            at += Duration::from_secs(9);
            let news = advising.hear(Heard::More(Said::parse(line).unwrap()), lasts, at);
            assert!(!advising.expire(false, lasts, at));
            assert_eq!(advising.spoken.as_ref().unwrap().said.to_string(), shown, "{line}");
            assert_eq!(news, News { changed, trouble: None }, "{line}");
        }
        let all = Heard::All(Said::parse("drain").unwrap());
        assert!(advising.hear(all, lasts, at).changed);
        assert_eq!(advising.spoken.as_ref().unwrap().said.to_string(), "drain");
    }

    #[test]
    fn advice_expires_and_silence_is_told_once() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut advising = Advising::default();
        assert!(advising.hear(Heard::More(Said::weight(5)), 10 * second, now).changed);
        assert_eq!(advising.expires(), Some(now + 10 * second));
        let news = advising.miss("refused".into(), now);
        assert_eq!(news, News { changed: false, trouble: Some("refused".into()) });
        assert_eq!(advising.miss("refused again".into(), now).trouble, None);
        assert!(!advising.expire(false, 10 * second, now + 9 * second));
        assert!(advising.advice().is_some());
        assert!(advising.expire(false, 10 * second, now + 10 * second));
        assert_eq!((advising.advice(), advising.expires()), (None, None));
        assert!(!advising.expire(false, 10 * second, now + 11 * second));
        // What has expired is not gone on with.
        let news = advising.hear(Heard::More(Said::parse("up").unwrap()), second, now);
        assert_eq!(news, News::default());
        let nothing = || Heard::Nothing("no header".into());
        assert_eq!(advising.hear(nothing(), second, now).trouble, Some("no header".into()));
        assert_eq!(advising.hear(nothing(), second, now), News::default());
    }

    #[test]
    fn what_nobody_can_say_again_does_not_expire() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut advising = Advising::default();
        advising.hear(Heard::More(Said::parse("maint").unwrap()), 10 * second, now);
        for (at, in_doubt, until) in
            [(9, true, 10), (10, true, 20), (20, true, 30), (29, false, 30), (30, false, 40)]
        {
            assert!(!advising.expire(in_doubt, 10 * second, now + at * second), "{at}");
            assert_eq!(advising.expires(), Some(now + until * second), "{at}");
        }
        assert!(advising.expire(false, 10 * second, now + 40 * second));
    }
}
