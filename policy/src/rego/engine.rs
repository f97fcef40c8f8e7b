// SPDX-License-Identifier: AGPL-3.0-only
//! The language itself: a rule made ready, and asked. It is a pure function of its input: no clock, no randomness, no
//! network. Its time is bounded here, its memory where it runs (`rego/worker.rs`).

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, PolicyLengthConfig, Value};

use super::{Answer, MOST_RULE};

/// How long one evaluation may take.
const LONGEST: Duration = Duration::from_millis(200);
/// The longest list that `numbers.range` makes.
const MOST_RANGE: u64 = 10_000;
const RULE: &str = "data.sigstore.isCompliant";

/// A rule that is ready. Asked on a copy: an engine has inner state.
#[derive(Clone)]
pub(super) struct Ready(Engine);

impl Ready {
    /// Reads a rule. It is Rego v0, as policy-controller's are, unless it imports `rego.v1` or is valid as v1 only.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let says_v1 = text.lines().any(|line| line.trim_start().starts_with("import rego.v1"));
        // What is valid as v1 means the same as v0, or is no v0; the reverse is not so: v0 takes the `if` of
        // `isCompliant if { … }` for a name, and the rule for one that is always true.
        let engine = match engine(text, false) {
            Ok(engine) => engine,
            Err(why) if says_v1 => return Err(why),
            Err(why) => match keyword_of_v1(text) {
                Some(word) => {
                    return Err(format!(
                        "{why} (`{word}` makes it Rego v1, or v0 with `import future.keywords.{word}`)"
                    ));
                }
                None => engine_v0(text)?,
            },
        };
        Ok(Ready(engine))
    }

    /// Asks it about this JSON.
    pub(super) fn ask(&self, input: &str) -> Answer {
        let Ok(input) = Value::from_json_str(input) else {
            return Answer::Not("the content is not JSON".to_owned());
        };
        let mut engine = self.0.clone();
        engine.set_input(input);
        match engine.eval_rule(RULE.to_owned()) {
            Ok(value) => answer(&value),
            Err(error) => {
                let why = brief(&format!("{error:#}"));
                if why.contains("time limit") { Answer::OverLimit(why) } else { Answer::Not(why) }
            }
        }
    }
}

fn engine_v0(text: &str) -> Result<Engine, String> {
    engine(text, true)
}

/// A word that is a keyword in v1, used without the import that makes it one in v0.
fn keyword_of_v1(text: &str) -> Option<&'static str> {
    let imports: Vec<&str> =
        text.lines().map(str::trim).filter_map(|line| line.strip_prefix("import ")).collect();
    let imported = |word: &str| {
        imports.iter().map(|import| import.trim()).any(|import| {
            let rest = import.strip_prefix("future.keywords");
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.strip_prefix('.') == Some(word) || (rest, word) == (".every", "in")
            })
        })
    };
    let code = code_of(text);
    ["if", "in", "every", "contains"].into_iter().filter(|word| !imported(word)).find(|word| {
        code.match_indices(word).any(|(at, _)| {
            let before = code.get(..at).and_then(|text| text.chars().next_back());
            let after = code.get(at + word.len()..).unwrap_or_default();
            let in_name = |c: char| c.is_alphanumeric() || c == '_';
            let stands_alone = !before.is_some_and(|c| in_name(c) || c == '.') && !after.starts_with(in_name);
            // `contains(…)` is a function in both.
            stands_alone && !(*word == "contains" && after.trim_start().starts_with('('))
        })
    })
}

/// The text without comments, imports and what stands in quotes.
fn code_of(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("import "));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut code = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => drop(chars.by_ref().find(|c| *c == '\n')),
            '`' => drop(chars.by_ref().find(|c| *c == '`')),
            '"' => {
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    if c == '\\' {
                        chars.next();
                    }
                }
            }
            _ => {
                code.push(c);
                continue;
            }
        }
        code.push(' ');
    }
    code
}

fn engine(text: &str, v0: bool) -> Result<Engine, String> {
    let mut engine = Engine::new();
    engine.set_rego_v0(v0);
    engine
        .set_execution_timer_config(ExecutionTimerConfig { limit: LONGEST, check_interval: NonZeroU32::MIN });
    engine.set_policy_length_config(PolicyLengthConfig {
        max_col: NonZeroU32::new(4_096).unwrap_or(NonZeroU32::MIN),
        max_file_bytes: NonZeroUsize::new(MOST_RULE).unwrap_or(NonZeroUsize::MIN),
        max_lines: NonZeroUsize::new(10_000).unwrap_or(NonZeroUsize::MIN),
    });
    restrain(&mut engine).map_err(|error| brief(&error))?;
    let explain = |error: String| format!("not Rego: {}", brief(&error));
    let package =
        engine.add_policy("rule".to_owned(), text.to_owned()).map_err(|e| explain(format!("{e:#}")))?;
    if package != "data.sigstore" {
        let package = package.trim_start_matches("data.");
        return Err(format!("the rule's package is {package:?}; it must be `package sigstore`"));
    }
    let declared =
        engine.has_declared_rule_rooted_at("rule", "isCompliant").map_err(|e| explain(format!("{e:#}")))?;
    if !declared {
        return Err("the rule `isCompliant` is missing".to_owned());
    }
    // What only shows when the rule is prepared, such as a variable that nothing sets.
    engine.compile_with_entrypoint(&RULE.into()).map_err(|e| explain(format!("{e:#}")))?;
    Ok(engine)
}

/// What the language offers that is not pure, or takes memory that nothing bounds, is replaced: extensions are looked up
/// before what is built in.
fn restrain(engine: &mut Engine) -> Result<(), String> {
    let failed = |error: String| error;
    let never = Box::new(|_: Vec<Value>| Err(Refused("rand.intn is not offered").into()));
    engine.add_extension("rand.intn".to_owned(), 2, never).map_err(|e| failed(e.to_string()))?;
    let range = Box::new(|args: Vec<Value>| match args.as_slice() {
        [from, to] => Ok(range(from, to, 1)?),
        _ => Err(Refused("numbers.range takes two numbers").into()),
    });
    engine.add_extension("numbers.range".to_owned(), 2, range).map_err(|e| failed(e.to_string()))?;
    let stepped = Box::new(|args: Vec<Value>| match args.as_slice() {
        [from, to, step] => match step.as_i64() {
            Ok(step) if step > 0 => Ok(self::range(from, to, step)?),
            _ => Err(Refused("numbers.range_step takes a step above zero").into()),
        },
        _ => Err(Refused("numbers.range_step takes three numbers").into()),
    });
    engine.add_extension("numbers.range_step".to_owned(), 3, stepped).map_err(|e| failed(e.to_string()))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(&'static str);

fn range(from: &Value, to: &Value, step: i64) -> Result<Value, Refused> {
    let whole = |value: &Value| value.as_i64().map_err(|_| Refused("numbers.range takes whole numbers"));
    let (from, to) = (whole(from)?, whole(to)?);
    if from.abs_diff(to) / step.unsigned_abs().max(1) > MOST_RANGE {
        return Err(Refused("numbers.range makes at most 10000 numbers"));
    }
    let mut numbers = Vec::new();
    let mut next = Some(from);
    while let Some(number) = next.filter(|number| if from <= to { *number <= to } else { *number >= to }) {
        numbers.push(Value::from(number));
        next = if from <= to { number.checked_add(step) } else { number.checked_sub(step) };
    }
    Ok(Value::from(numbers))
}

/// `true`, or `{result, warning, error}`, or a list of these that is not empty and in which each result is true.
fn answer(value: &Value) -> Answer {
    match value {
        Value::Bool(true) => Answer::Compliant,
        Value::Bool(false) => Answer::Not("isCompliant is false".to_owned()),
        Value::Undefined => Answer::Not("isCompliant is not defined for this content".to_owned()),
        Value::Object(_) => one(value),
        Value::Array(list) if !list.is_empty() => all(list.iter()),
        Value::Set(set) if !set.is_empty() => all(set.iter()),
        _ => {
            Answer::Not("isCompliant is neither a boolean nor a list of {result, warning, error}".to_owned())
        }
    }
}

fn all<'a>(mut values: impl Iterator<Item = &'a Value>) -> Answer {
    values
        .find_map(|value| Some(one(value)).filter(|one| *one != Answer::Compliant))
        .unwrap_or(Answer::Compliant)
}

fn one(value: &Value) -> Answer {
    let field =
        |name: &str| value.as_object().ok().and_then(|object| object.get(&Value::from(name)).cloned());
    let error = field("error").and_then(|error| error.as_string().ok().map(ToString::to_string));
    let error = error.filter(|error| !error.is_empty());
    match (field("result"), error) {
        (Some(Value::Bool(true)), None) => Answer::Compliant,
        (Some(Value::Bool(_)), Some(error)) => Answer::Not(brief(&error)),
        (Some(Value::Bool(false)), None) => Answer::Not("isCompliant has a result that is false".to_owned()),
        _ => Answer::Not("isCompliant has an item without a boolean `result`".to_owned()),
    }
}

/// One line, not too long: the text can be the signer's.
fn brief(text: &str) -> String {
    let line: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line: String = line.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 300 { line } else { line.chars().take(300).chain(['…']).collect() }
}
