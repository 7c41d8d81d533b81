//! Keys that a document gives twice.
//!
//! JSON leaves open which of the two counts (RFC 8259, section 4), and readers differ: what one tool inspects or signs is
//! then not what another runs. No tool that writes images does it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Looks at every object of a document.
///
/// # Errors
/// Where a key is given for the second time; or that it is no JSON.
pub(super) fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<Distinct>(bytes).map(|_| ())
}

/// Any value, of which nothing is kept.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Distinct)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let Distinct = map.next_value()?;
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is given twice")));
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while let Some(Distinct) = list.next_element()? {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn keys_are_compared_as_they_are_meant() {
        for fine in ["1", "null", "[]", r#"{"a":{"a":1},"b":[{"a":-1.5},{"a":true}]}"#, r#"{"a":1,"A":2}"#] {
            assert!(check(fine.as_bytes()).is_ok(), "{fine}");
        }
        for twice in [r#"{"a":1,"a":1}"#, r#"[{"x":{"a":1,"b":2,"a":3}}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(check(twice.as_bytes()).unwrap_err().to_string().contains("twice"), "{twice}");
        }
        for broken in ["", "{", "[1,]", "{\"a\":1} x", "\u{feff}{}"] {
            assert!(check(broken.as_bytes()).is_err(), "{broken}");
        }
        assert!(check("[".repeat(100_000).as_bytes()).is_err());
    }
}
