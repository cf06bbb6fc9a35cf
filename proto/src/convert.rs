//! The rule at the border: `TryFrom` in, `From` out; unknown enum values are errors, missing fields are named.

mod ahead;
mod assignment;
mod companion;
mod content;
mod dependency;
mod network;
mod relay;
mod report;
mod service;
mod session;
mod volumes;
mod workload;

use std::{fmt::Display, net::Ipv6Addr, str::FromStr};

use api_types::id::Name;

use crate::{
    error::ConvertError,
    limits::{TEXT_BYTES_MAX, cut},
};

/// Reads a text that has a form of its own: a name, a range.
fn parsed<T: FromStr<Err: Display>>(path: &str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|error| ConvertError::new(path, error))
}

/// Reads a name that is left empty where none is meant.
fn name_or_none(path: &str, text: &str) -> Result<Option<Name>, ConvertError> {
    if text.is_empty() { Ok(None) } else { parsed(path, text).map(Some) }
}

/// Reads a field that must be there.
fn required<W, T: TryFrom<W, Error = ConvertError>>(path: &str, field: Option<W>) -> Result<T, ConvertError> {
    let field = field.ok_or_else(|| ConvertError::missing(path))?;
    T::try_from(field).map_err(|error| error.within(path))
}

/// Reads a field that may be absent.
fn optional<W, T: TryFrom<W, Error = ConvertError>>(path: &str, field: Option<W>) -> Result<Option<T>, ConvertError> {
    field.map(|field| T::try_from(field).map_err(|error| error.within(path))).transpose()
}

/// Reads a list; an error names the position.
fn list<W, T: TryFrom<W, Error = ConvertError>>(path: &str, items: Vec<W>) -> Result<Vec<T>, ConvertError> {
    let item = |(index, item)| T::try_from(item).map_err(|error| error.within(format_args!("{path}[{index}]")));
    items.into_iter().enumerate().map(item).collect()
}

/// Reads a list of texts that have a form of their own.
fn parsed_list<T: FromStr<Err: Display>>(path: &str, items: &[String]) -> Result<Vec<T>, ConvertError> {
    let item = |(index, item): (usize, &String)| parsed(&format!("{path}[{index}]"), item);
    items.iter().enumerate().map(item).collect()
}

/// Reads a port.
fn port(path: &str, number: u32) -> Result<u16, ConvertError> {
    u16::try_from(number).map_err(|_| ConvertError::new(path, format_args!("{number} is not a port")))
}

/// Reads an IPv6 address of 16 bytes; none is empty.
fn ipv6_address(path: &str, octets: &[u8]) -> Result<Option<Ipv6Addr>, ConvertError> {
    if octets.is_empty() {
        return Ok(None);
    }
    let octets: [u8; 16] = octets
        .try_into()
        .map_err(|_| ConvertError::new(path, format_args!("{} bytes are not an IPv6 address", octets.len())))?;
    Ok(Some(octets.into()))
}

/// Writes an IPv6 address.
fn wire_ipv6_address(address: Option<Ipv6Addr>) -> Vec<u8> {
    address.map_or_else(Vec::new, |address| address.octets().to_vec())
}

/// Reads an enum; zero and numbers that this version does not know are errors.
fn known<W: TryFrom<i32>>(path: &str, number: i32) -> Result<W, ConvertError> {
    W::try_from(number).map_err(|_| unknown(path, number))
}

/// Makes the error for an enum's value that means nothing here.
fn unknown(path: &str, number: i32) -> ConvertError {
    ConvertError::new(path, format_args!("{number} has no meaning in this version"))
}

/// Reads a text of an agent, which is bounded.
fn bounded(path: &str, text: String) -> Result<String, ConvertError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ConvertError::new(path, format_args!("{} bytes are more than {TEXT_BYTES_MAX}", text.len())));
    }
    Ok(text)
}

/// Writes a text of an agent, cut to what the other end accepts.
fn shortened(text: String) -> String {
    cut(text, TEXT_BYTES_MAX)
}
