//! From bytes to packets, bounded: the `pgp` crate's own readers skip what is broken off, and a signature that is cut
//! in half must say so.

use std::io::{BufReader, Read};

use pgp::armor::{BlockType, Dearmor};
use pgp::packet::{Packet, PacketParser, Signature};

use super::{MAX_SIGNATURE, MAX_SIGNATURES, OpenPgpError};

/// The signatures of a detached signature file.
pub(super) fn detached(bytes: &[u8]) -> Result<Vec<Signature>, OpenPgpError> {
    let signatures = parse(&binary(bytes, |kind| matches!(kind, BlockType::Signature))?)?
        .into_iter()
        .map(|packet| match packet {
            Packet::Signature(signature) => Ok(signature),
            other => Err(unexpected(&other)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    match signatures.len() {
        0 => Err(OpenPgpError::NoSignature),
        1..=MAX_SIGNATURES => Ok(signatures),
        _ => Err(OpenPgpError::TooMany),
    }
}

/// A signed message: what it says, and its signature. Messages with several signatures are refused, as everybody does
/// who reads these.
pub(super) fn signed(bytes: &[u8]) -> Result<(Vec<u8>, Signature), OpenPgpError> {
    let bytes = binary(bytes, |kind| matches!(kind, BlockType::Message | BlockType::File))?;
    let mut packets = parse(&bytes)?;
    if let [Packet::CompressedData(compressed)] = packets.as_slice() {
        let inflate = compressed.decompress().map_err(malformed)?;
        packets = parse(&bounded(inflate)?)?;
    }
    match <[Packet; 3]>::try_from(packets) {
        Ok([Packet::OnePassSignature(_), Packet::LiteralData(data), Packet::Signature(signature)]) => {
            Ok((data.data().to_vec(), signature))
        }
        Ok([first, ..]) => Err(unexpected(&first)),
        Err(others) => match others.first() {
            Some(first) => Err(unexpected(first)),
            None => Err(OpenPgpError::NoSignature),
        },
    }
}

/// Takes the armor off, if there is one.
fn binary(bytes: &[u8], wanted: impl Fn(&BlockType) -> bool) -> Result<Vec<u8>, OpenPgpError> {
    if bytes.len() as u64 > MAX_SIGNATURE {
        return Err(OpenPgpError::TooLarge { limit: MAX_SIGNATURE });
    }
    // The highest bit of every packet's first byte is set.
    match bytes.first() {
        None => Err(OpenPgpError::NoSignature),
        Some(first) if first & 0x80 != 0 => Ok(bytes.to_vec()),
        Some(_) => {
            let mut armor = Dearmor::new(BufReader::new(bytes));
            armor.read_header().map_err(malformed)?;
            match armor.typ {
                Some(kind) if wanted(&kind) => bounded(armor),
                Some(kind) => Err(OpenPgpError::Unexpected(kind.to_string())),
                None => Err(OpenPgpError::NoSignature),
            }
        }
    }
}

fn bounded(from: impl Read) -> Result<Vec<u8>, OpenPgpError> {
    let mut bytes = Vec::new();
    let length = from.take(MAX_SIGNATURE + 1).read_to_end(&mut bytes);
    let length = length.map_err(|error| malformed(pgp::errors::Error::from(error)))?;
    if length as u64 > MAX_SIGNATURE {
        Err(OpenPgpError::TooLarge { limit: MAX_SIGNATURE })
    } else {
        Ok(bytes)
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Packet>, OpenPgpError> {
    let mut packets = Vec::new();
    for packet in PacketParser::new(bytes) {
        match packet.map_err(malformed)? {
            Packet::Marker(_) | Packet::Padding(_) => {}
            packet => packets.push(packet),
        }
        if packets.len() > MAX_SIGNATURES {
            return Err(OpenPgpError::TooMany);
        }
    }
    Ok(packets)
}

fn malformed(error: pgp::errors::Error) -> OpenPgpError {
    OpenPgpError::Malformed(Box::new(error))
}

fn unexpected(packet: &Packet) -> OpenPgpError {
    use pgp::packet::PacketTrait as _;
    OpenPgpError::Unexpected(format!("{:?}", packet.packet_header().tag()))
}
