//! Ids of instances: a cut of the workload's name and the number in base 36, made when asked for and read back.

use api_types::id::{InstanceId, WorkloadId};

/// The longest part of an id that comes from the workload's name: thirteen digits in base 36 hold any number.
const NAME_PART_BYTES_MAX: usize = 63 - 1 - DIGITS_MAX;

/// The digits of the greatest number.
const DIGITS_MAX: usize = 13;

/// The id of the instance with this number; unique, because the number is and comes last.
pub(crate) fn instance_id(workload: &WorkloadId, number: u64) -> InstanceId {
    let mut digits = [0; DIGITS_MAX];
    let text = format!("{}-{}", name_part(workload), base36(number, &mut digits));
    InstanceId::new(&text).expect("a cut name, a hyphen and digits are a name")
}

/// The number in an id; `None` if no number of ours ends so.
pub(crate) fn number_in(id: &InstanceId) -> Option<u64> {
    let (_, digits) = id.as_str().rsplit_once('-')?;
    // Each number has one text: no zeros before it.
    if digits.len() > DIGITS_MAX || (digits.starts_with('0') && digits.len() > 1) {
        return None;
    }
    u64::from_str_radix(digits, 36).ok()
}

/// Whether the part of an id before its number is the one of this workload.
pub(crate) fn is_named_after(id: &InstanceId, workload: &WorkloadId) -> bool {
    id.as_str().rsplit_once('-').is_some_and(|(name, _)| name == name_part(workload))
}

fn name_part(workload: &WorkloadId) -> &str {
    let name = workload.name.as_str();
    name.get(..NAME_PART_BYTES_MAX).unwrap_or(name).trim_end_matches('-')
}

fn base36(mut number: u64, digits: &mut [u8; DIGITS_MAX]) -> &str {
    let mut first = DIGITS_MAX;
    loop {
        first -= 1;
        digits[first] = b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::try_from(number % 36).expect("below 36")];
        number /= 36;
        if number == 0 {
            return std::str::from_utf8(&digits[first..]).expect("digits and letters");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_whatever_the_workload_is_called() {
        let long = "a".repeat(48) + &"-".repeat(14) + "b";
        let workload: WorkloadId = long.parse().unwrap();

        assert_eq!(instance_id(&"web".parse().unwrap(), 4_461).as_str(), "web-3fx");
        assert_eq!(instance_id(&workload, u64::MAX).as_str(), format!("{}-3w5e11264sgsf", "a".repeat(48)));
        assert_eq!(instance_id(&"web".parse().unwrap(), 0).as_str(), "web-0");
    }

    #[test]
    fn a_number_reads_back_and_has_one_text() {
        let workload: WorkloadId = "prod/web-1".parse().unwrap();

        for number in [0, 35, 36, 1_296, u64::MAX] {
            let id = instance_id(&workload, number);
            assert_eq!(number_in(&id), Some(number));
            assert!(is_named_after(&id, &workload));
            assert!(!is_named_after(&id, &"web".parse().unwrap()));
        }
        for text in ["web", "web-03fx", "web-3w5e11264sgsg", "web-zzzzzzzzzzzzzz"] {
            assert_eq!(number_in(&InstanceId::new(text).unwrap()), None, "{text}");
        }
    }
}
