// SPDX-License-Identifier: AGPL-3.0-only
//! `access`: who may do what. What the rules mean is decided in `registry/src/access/rules.rs`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use stella_storage::{RepoPattern, TextPattern};

use crate::access::Action;

/// An entry of `access`: the first that is about an action, a client and a repository decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// What is allowed: actions, or `all`. A rule has this or `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Actions>,
    /// What is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<Actions>,
    /// Whom it is about.
    pub to: Whom,
    /// Patterns of repository names, or `own`. Default: all repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "places")]
    pub repositories: Vec<Place>,
}

/// A list that is there and empty would mean nothing to who wrote it, and everything to who reads it.
fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Place>, D::Error> {
    let places = Vec::<Place>::deserialize(deserializer)?;
    if places.is_empty() {
        return Err(D::Error::custom("the list is empty; leave `repositories` out if you mean all of them"));
    }
    Ok(places)
}

/// Actions of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// Whether an action is among them.
    pub fn contains(&self, action: Action) -> bool {
        self.0.contains(&action)
    }
}

/// Whom a rule is about: any of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whom(pub Vec<Client>);

/// Clients of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// All.
    Everyone,
    /// Those who do not say who they are.
    Anonymous,
    /// Those who have proven who they are.
    Authenticated,
    /// Those who are all of this.
    Like(Box<Likeness>),
}

/// What a client must be, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Likeness {
    /// A name, or a pattern of names.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_text")]
    pub subject: Option<TextPattern>,
    /// A group, or a pattern of groups.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_text")]
    pub group: Option<TextPattern>,
    /// Claims of its token, each with a value or a pattern; one of several values is enough.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", with = "texts")]
    pub claims: BTreeMap<String, TextPattern>,
}

/// Where a rule holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the repositories that the client's issuer calls its own.
    Own,
    /// In those that a pattern means.
    Pattern(RepoPattern),
}

const ALL: &str = "all";
const OWN: &str = "own";
const EVERYONE: &str = "everyone";
const ANONYMOUS: &str = "anonymous";
const AUTHENTICATED: &str = "authenticated";

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ActionsVisitor;

        impl<'de> Visitor<'de> for ActionsVisitor {
            type Value = Actions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, or a list of actions such as [pull, push]")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Actions, E> {
                if text == ALL {
                    return Ok(Actions(Action::ALL.to_vec()));
                }
                text.parse().map(|action| Actions(vec![action])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Actions, A::Error> {
                let words = Vec::<String>::deserialize(SeqAccessDeserializer::new(list))?;
                if words.is_empty() {
                    return Err(A::Error::custom("a rule needs an action"));
                }
                let actions = words.iter().map(|word| word.parse()).collect::<Result<_, String>>();
                actions.map(Actions).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(ActionsVisitor)
    }
}

impl Serialize for Actions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == Action::ALL { serializer.serialize_str(ALL) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Client {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClientVisitor;

        impl<'de> Visitor<'de> for ClientVisitor {
            type Value = Client;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`everyone`, `anonymous`, `authenticated`, or a section of `subject`, `group` and `claims`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Client, E> {
                match text {
                    EVERYONE => Ok(Client::Everyone),
                    ANONYMOUS => Ok(Client::Anonymous),
                    AUTHENTICATED => Ok(Client::Authenticated),
                    _ => Err(E::custom(format!(
                        "{text:?} is neither `everyone`, `anonymous` nor `authenticated`; a person is written {{subject: {text}}}"
                    ))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Client, A::Error> {
                let likeness = Likeness::deserialize(MapAccessDeserializer::new(map))?;
                if likeness == Likeness::default() {
                    return Err(A::Error::custom(
                        "nothing is asked of the client; write `everyone` if you mean that",
                    ));
                }
                Ok(Client::Like(Box::new(likeness)))
            }
        }

        deserializer.deserialize_any(ClientVisitor)
    }
}

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Client::Everyone => serializer.serialize_str(EVERYONE),
            Client::Anonymous => serializer.serialize_str(ANONYMOUS),
            Client::Authenticated => serializer.serialize_str(AUTHENTICATED),
            Client::Like(likeness) => likeness.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Whom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WhomVisitor;

        impl<'de> Visitor<'de> for WhomVisitor {
            type Value = Whom;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`everyone`, `anonymous`, `authenticated`, a section of `subject`, `group` and `claims`, or a list of these")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Whom, E> {
                Client::deserialize(serde::de::value::StrDeserializer::new(text))
                    .map(|client| Whom(vec![client]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Whom, A::Error> {
                Client::deserialize(MapAccessDeserializer::new(map)).map(|client| Whom(vec![client]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Whom, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Whom)
            }
        }

        deserializer.deserialize_any(WhomVisitor)
    }
}

impl Serialize for Whom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [client] => client.serialize(serializer),
            clients => {
                let mut list = serializer.serialize_seq(Some(clients.len()))?;
                for client in clients {
                    list.serialize_element(client)?;
                }
                list.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == OWN { Ok(Place::Own) } else { text.parse().map(Place::Pattern).map_err(D::Error::custom) }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Place::Own => serializer.serialize_str(OWN),
            Place::Pattern(pattern) => serializer.collect_str(pattern),
        }
    }
}

mod optional_text {
    use super::{Deserialize, Deserializer, Error, Serializer, TextPattern};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<TextPattern>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        pattern: &Option<TextPattern>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match pattern {
            Some(pattern) => serializer.collect_str(pattern),
            None => serializer.serialize_none(),
        }
    }
}

mod texts {
    use std::collections::BTreeMap;

    use super::{Deserialize, Deserializer, Error, Serializer, TextPattern};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, TextPattern>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let parsed =
            texts.into_iter().map(|(claim, text)| Ok((claim, text.parse().map_err(D::Error::custom)?)));
        parsed.collect()
    }

    pub(super) fn serialize<S: Serializer>(
        patterns: &BTreeMap<String, TextPattern>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(patterns.iter().map(|(claim, pattern)| (claim, pattern.as_str())))
    }
}
