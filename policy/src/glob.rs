// SPDX-License-Identifier: AGPL-3.0-only
//! Which artifacts a document is about. Two dialects, because two documents have them: [`ImageGlob`] is that of
//! policy-controller, matched against `HOST/REPOSITORY`; [`RepositoryGlob`] is that of the rest of the program, matched
//! against the repository alone. Both match in time bounded by pattern length times text length.

use serde::{Serialize, Serializer};

use crate::Digest;

/// Longer than any name.
const MOST: usize = 1_000;
/// The most patterns that braces may stand for.
const MOST_ALTERNATIVES: usize = 64;

/// `images[].glob` of a `ClusterImagePolicy`: `*` is anything without a slash, `**` anything.
///
/// Verdicts are per digest, so a tag can only be `:*`, which is any; a digest may be named.
#[derive(Clone, Debug)]
pub struct ImageGlob {
    text: String,
    name: Vec<Step>,
    digest: Option<Vec<Step>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Byte(u8),
    /// One byte that is no slash.
    One,
    /// Any number of bytes that are no slashes.
    Within,
    /// Any number of bytes.
    Across,
}

impl ImageGlob {
    /// Reads it. The error is a sentence for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:/*.@".contains(&byte);
        if text.is_empty() || text.len() > MOST {
            return Err(format!("a glob has 1 to {MOST} characters"));
        }
        if !text.bytes().all(allowed) {
            return Err(format!(
                "{text:?} is not a glob: letters, digits, '-', '_', '.', ':', '/', '@', '*' and '**' can be in one"
            ));
        }
        // As policy-controller does: images without a host are Docker Hub's.
        let full = match text {
            "*" => "index.docker.io/library/*",
            "*/*" => "index.docker.io/*/*",
            other => other,
        };
        let (name, digest) = match full.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (full, None),
        };
        if digest.is_some_and(|digest| digest.is_empty() || digest.contains(['@', '/'])) {
            return Err(format!("{text:?} is not a glob: after '@' stands a digest, such as sha256:*"));
        }
        let name = without_tag(text, name)?;
        if name.is_empty() {
            return Err(format!("{text:?} names no repository; for all of them write **"));
        }
        if !name.contains('/') && !name.contains("**") {
            return Err(format!(
                "{text:?} names no host, so it is about nothing: images here are HOST/REPOSITORY, such as \
                 registry.example/{name}"
            ));
        }
        Ok(ImageGlob {
            text: text.to_owned(),
            name: steps(name, false),
            digest: digest.map(|d| steps(d, false)),
        })
    }

    /// Whether it is about this digest in the repository `name`, which is `HOST/REPOSITORY`.
    pub fn matches(&self, name: &str, digest: &Digest) -> bool {
        let of_digest = |steps: &Vec<Step>| walk(steps, digest.as_str().as_bytes());
        walk(&self.name, name.as_bytes()) && self.digest.as_ref().is_none_or(of_digest)
    }

    /// Whether it is about any digest in the repository `name`.
    pub(crate) fn may_match(&self, name: &str) -> bool {
        walk(&self.name, name.as_bytes())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Serialize for ImageGlob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// The glob of the name alone. A colon in the first part, with more parts after it, begins a port.
fn without_tag<'a>(text: &str, glob: &'a str) -> Result<&'a str, String> {
    let last_slash = glob.rfind('/').map_or(0, |at| at + 1);
    let last = glob.get(last_slash..).unwrap_or_default();
    let Some((_, tag)) = last.split_once(':') else { return Ok(glob) };
    if tag == "*" || tag == "**" {
        return Ok(glob.strip_suffix(tag).and_then(|name| name.strip_suffix(':')).unwrap_or(glob));
    }
    Err(format!(
        "{text:?} names the tag {tag:?}, but verdicts are per digest and a tag can move; write `:*`, leave it out, or \
         name a digest after '@'"
    ))
}

/// `repositories` of a `RegistryPolicy`: `*` and `?` are what has no slash, `**` as a whole part any number of parts,
/// `{a,b}` either.
#[derive(Clone, Debug)]
pub struct RepositoryGlob {
    text: String,
    either: Vec<Vec<Part>>,
}

#[derive(Clone, Debug)]
enum Part {
    Any,
    Of(Vec<Step>),
}

impl RepositoryGlob {
    /// Reads it. The error is a sentence for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MOST {
            return Err(format!("a pattern of repository names has 1 to {MOST} characters"));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/*?{},".contains(c);
        if let Some(wrong) = text.chars().find(|c| !allowed(*c)) {
            return Err(format!(
                "{text:?} is not a pattern of repository names: {wrong:?} cannot be in one; use lower case letters, \
                 digits, '.', '_', '-', '/', '*', '**', '?' and '{{a,b}}'"
            ));
        }
        let mut whole = Vec::new();
        expand(text, &mut whole).map_err(|why| format!("{text:?} is not a pattern: {why}"))?;
        let either = whole.iter().map(|one| parts(one)).collect::<Result<_, _>>();
        Ok(RepositoryGlob { text: text.to_owned(), either: either.map_err(|why| format!("{text:?} {why}"))? })
    }

    /// Whether this repository is meant.
    pub fn matches(&self, repository: &str) -> bool {
        let name: Vec<&str> = repository.split('/').collect();
        self.either.iter().any(|parts| walk_parts(parts, &name))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Serialize for RepositoryGlob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Writes out the braces of `text`.
fn expand(text: &str, whole: &mut Vec<String>) -> Result<(), String> {
    let mut todo = vec![text.to_owned()];
    while let Some(text) = todo.pop() {
        let Some(open) = text.find('{') else {
            if text.contains('}') {
                return Err("a '}' has no '{'".to_owned());
            }
            whole.push(text);
            continue;
        };
        let (before, rest) = text.split_at(open);
        if before.contains('}') {
            return Err("a '}' has no '{'".to_owned());
        }
        let (choices, after) = choices(rest)?;
        todo.extend(choices.into_iter().map(|choice| format!("{before}{choice}{after}")));
        if todo.len() + whole.len() > MOST_ALTERNATIVES {
            return Err(format!("its braces stand for more than {MOST_ALTERNATIVES} patterns"));
        }
    }
    Ok(())
}

/// What stands between the brace that `text` begins with and its partner, and what stands after it.
fn choices(text: &str) -> Result<(Vec<&str>, &str), String> {
    let (mut depth, mut begin, mut found) = (0_usize, 1, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b',' if depth == 1 => {
                found.push(text.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            found.push(text.get(begin..at).unwrap_or_default());
            if found.iter().any(|choice| choice.is_empty()) {
                return Err("braces hold an empty choice".to_owned());
            }
            return Ok((found, text.get(at + 1..).unwrap_or_default()));
        }
    }
    Err("a '{' has no '}'".to_owned())
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let part = |part: &str| {
        match part {
        "" => Err("is not a pattern: a part between slashes is empty".to_owned()),
        "**" => Ok(Part::Any),
        part if part.contains("**") => Err(
            "is not a pattern: `**` stands for whole parts between slashes, such as in a/**; inside a part write `*`"
                .to_owned(),
        ),
        part => Ok(Part::Of(steps(part, true))),
    }
    };
    text.split('/').map(part).collect()
}

/// Whether the parts match the whole name. `**` is any number of parts; at the end at least one.
fn walk_parts(parts: &[Part], name: &[&str]) -> bool {
    // `at[i]`: whether the parts so far can have used the first i parts of the name.
    let mut at = vec![false; name.len() + 1];
    at[0] = true;
    for (index, part) in parts.iter().enumerate() {
        let mut next = vec![false; name.len() + 1];
        match part {
            Part::Any => {
                let least = usize::from(index + 1 == parts.len());
                if let Some(first) = at.iter().position(|reached| *reached) {
                    next.iter_mut().skip(first + least).for_each(|reached| *reached = true);
                }
            }
            Part::Of(steps) => {
                for (used, text) in name.iter().enumerate() {
                    next[used + 1] = at[used] && walk(steps, text.as_bytes());
                }
            }
        }
        at = next;
    }
    at.last().copied().unwrap_or(false)
}

fn steps(glob: &str, question_is_one: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut bytes = glob.bytes().peekable();
    while let Some(byte) = bytes.next() {
        steps.push(match byte {
            b'*' if bytes.next_if_eq(&b'*').is_some() => Step::Across,
            b'*' => Step::Within,
            b'?' if question_is_one => Step::One,
            other => Step::Byte(other),
        });
    }
    steps
}

/// Whether the steps match the whole text: all ways at once, so without going back.
fn walk(steps: &[Step], text: &[u8]) -> bool {
    // Up to the first star there is one way, and most of thousands of globs end on it.
    let is_same = |(step, byte): &(&Step, &u8)| matches!(step, Step::Byte(wanted) if wanted == *byte);
    let same = steps.iter().zip(text).take_while(is_same).count();
    let (steps, text) = (&steps[same..], &text[same..]);
    if matches!(steps.first(), Some(Step::Byte(_))) {
        return false;
    }
    let mut at = vec![false; steps.len() + 1];
    at[0] = true;
    skip(steps, &mut at);
    for byte in text {
        let mut next = vec![false; steps.len() + 1];
        for (index, step) in steps.iter().enumerate().filter(|(index, _)| at[*index]) {
            match step {
                Step::Byte(wanted) => next[index + 1] |= wanted == byte,
                Step::One => next[index + 1] |= *byte != b'/',
                Step::Within => next[index] |= *byte != b'/',
                Step::Across => next[index] = true,
            }
        }
        skip(steps, &mut next);
        at = next;
    }
    at.last().copied().unwrap_or(false)
}

/// Stars can also be nothing.
fn skip(steps: &[Step], at: &mut [bool]) {
    for (index, step) in steps.iter().enumerate() {
        if at[index] && matches!(step, Step::Within | Step::Across) {
            at[index + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests;
