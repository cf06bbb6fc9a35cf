//! Tokens: `WJ1-…` lets a node in, `WA1-…` lets a person or program ask. The prefix is for scanners of leaked secrets.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::pin::{PIN_CHARS, Pin};

const ID_BYTES: usize = 5;
const ID_CHARS: usize = 8;
const SECRET_BYTES: usize = 16;
const SECRET_CHARS: usize = 26;
const CHECK_CHARS: usize = 4;

/// The secret part of a token: 128 random bits as text. It shows itself only where it is asked to.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Lets a node in: where to trust (the pin), which token (the id), and the proof (the secret).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The public key of the cluster's CA.
    pub pin: Pin,
    /// Which token; not secret.
    pub id: String,
    /// The proof.
    pub secret: Secret,
}

/// Lets a person or program ask the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Which token; not secret.
    pub id: String,
    /// The proof.
    pub secret: Secret,
}

/// Why a text is not a token, or no token could be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The prefix is another one.
    #[error("this is not a {kind} token: it must begin with `{prefix}-`")]
    Prefix {
        /// `join` or `API`.
        kind: &'static str,
        /// What it must begin with.
        prefix: &'static str,
    },
    /// Parts are missing, or have the wrong length or letters.
    #[error("the token is incomplete or was cut: {part} must be {chars} characters of A-Z and 2-7; copy it whole")]
    Shape {
        /// Which part.
        part: &'static str,
        /// How long it must be.
        chars: usize,
    },
    /// The check characters do not fit the rest.
    #[error("the token has a typing error: its last four characters do not fit the rest; copy it whole")]
    Check,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl Secret {
    /// Gives the text, to show it once or to send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Gives what a server keeps: SHA-256 of the text. 128 random bits need no slow hash.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl JoinToken {
    /// Makes a token for the cluster whose CA has this pin.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate(pin: Pin) -> Result<Self, TokenError> {
        Ok(Self { pin, id: random::<ID_BYTES>()?, secret: Secret(random::<SECRET_BYTES>()?) })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = format!("WJ1-{}-{}-{}", self.pin, self.id, self.secret.0);
        write!(f, "{body}-{}", check(&body))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_ascii_uppercase();
        let parts: Vec<&str> = text.split('-').collect();
        if parts.first() != Some(&"WJ1") {
            return Err(TokenError::Prefix { kind: "join", prefix: "WJ1" });
        }
        let part = |index: usize, name, chars| part(parts.get(index).copied(), name, chars);
        let pin = part(1, "the cluster's pin", PIN_CHARS)?;
        let id = part(2, "the id", ID_CHARS)?;
        let secret = part(3, "the secret", SECRET_CHARS)?;
        let given = part(4, "the check", CHECK_CHARS)?;
        let body = format!("WJ1-{pin}-{id}-{secret}");
        if parts.len() != 5 || check(&body) != given {
            return Err(TokenError::Check);
        }
        let pin = pin.parse().map_err(|_| TokenError::Check)?;
        Ok(Self { pin, id: id.to_owned(), secret: Secret(secret.to_owned()) })
    }
}

impl ApiToken {
    /// Makes a token.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, TokenError> {
        Ok(Self { id: random::<ID_BYTES>()?, secret: Secret(random::<SECRET_BYTES>()?) })
    }
}

impl fmt::Display for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WA1-{}-{}", self.id, self.secret.0)
    }
}

impl FromStr for ApiToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_ascii_uppercase();
        let parts: Vec<&str> = text.split('-').collect();
        if parts.first() != Some(&"WA1") {
            return Err(TokenError::Prefix { kind: "API", prefix: "WA1" });
        }
        let id = part(parts.get(1).copied(), "the id", ID_CHARS)?;
        let secret = part(parts.get(2).copied(), "the secret", SECRET_CHARS)?;
        if parts.len() != 3 {
            return Err(TokenError::Shape { part: "the secret", chars: SECRET_CHARS });
        }
        Ok(Self { id: id.to_owned(), secret: Secret(secret.to_owned()) })
    }
}

fn part<'a>(text: Option<&'a str>, part: &'static str, chars: usize) -> Result<&'a str, TokenError> {
    let letter = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    text.filter(|text| text.len() == chars && text.bytes().all(letter)).ok_or(TokenError::Shape { part, chars })
}

fn random<const BYTES: usize>() -> Result<String, TokenError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::Random)?;
    Ok(BASE32_NOPAD.encode(&bytes))
}

/// Four characters that find a typing error before anything is sent: the first 20 bits of SHA-256.
fn check(body: &str) -> String {
    let mut text = BASE32_NOPAD.encode(&Sha256::digest(body.as_bytes()));
    text.truncate(CHECK_CHARS);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_it_was_shown() {
        let join = JoinToken::generate(Pin([7; 32])).expect("random numbers");
        let api = ApiToken::generate().expect("random numbers");

        assert_eq!(format!(" {join}\n").parse(), Ok(join.clone()));
        assert_eq!(join.to_string().to_lowercase().parse(), Ok(join.clone()));
        assert_eq!(api.to_string().parse(), Ok(api.clone()));
        assert_eq!(join.to_string().len(), 3 + 1 + 52 + 1 + 8 + 1 + 26 + 1 + 4);
        assert!(!format!("{join:?} {api:?}").contains(join.secret.reveal()), "a secret stays out of logs");
    }

    #[test]
    fn a_wrong_letter_anywhere_is_found_before_anything_is_sent() {
        let text = JoinToken::generate(Pin([7; 32])).expect("random numbers").to_string();

        for index in 4..text.len() {
            let mut wrong = text.clone().into_bytes();
            if wrong[index] == b'-' {
                continue;
            }
            wrong[index] = if wrong[index] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            assert_eq!(wrong.parse::<JoinToken>(), Err(TokenError::Check), "position {index}");
        }
    }

    #[test]
    fn other_texts_say_what_is_wrong() {
        let text = JoinToken::generate(Pin([7; 32])).expect("random numbers").to_string();

        assert!(matches!("K10abc".parse::<JoinToken>(), Err(TokenError::Prefix { .. })));
        assert!(matches!(text.parse::<ApiToken>(), Err(TokenError::Prefix { .. })));
        let cut = &text[..text.len() - 6];
        assert!(matches!(cut.parse::<JoinToken>(), Err(TokenError::Shape { part: "the secret", .. })));
        assert!(matches!("WJ1-".parse::<JoinToken>(), Err(TokenError::Shape { part: "the cluster's pin", .. })));
        assert_eq!(format!("{text}-AAAA").parse::<JoinToken>(), Err(TokenError::Check));
    }
}
