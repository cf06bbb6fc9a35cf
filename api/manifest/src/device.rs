//! `resources.devices`: GPUs, cameras, licences and other things that a node has few of.

use api_types::device::{
    DEVICE_COUNT_MAX, DEVICE_WORD_BYTES_MAX, DeviceAmount, DeviceRequest, WHOLE_DEVICE_MILLIS, is_device_word,
};

use crate::{
    section::{Entry, Section},
    units::thousandths,
};

const EXAMPLE: &str = "write a whole number of devices, a part of one such as 0.5, or \"share\"";

/// Reads `{ gpu = 1, "gpu/t4" = 0.5, camera = "share" }`, in the order of the keys.
pub(crate) fn read(section: &Section<'_>) -> Vec<DeviceRequest> {
    let mut requests = Vec::new();
    for entry in section.entries() {
        let (kind, model) = entry.key.split_once('/').map_or((entry.key, None), |(kind, model)| (kind, Some(model)));
        let wrong = [Some(kind), model].into_iter().flatten().find(|word| !is_device_word(word));
        if let Some(wrong) = wrong {
            let message = format!("`{}` is not the kind or model of a device", wrong.escape_debug());
            let help = format!(
                "write kind or kind/model, such as \"gpu/t4\": letters, digits, - _ and ., at most \
                 {DEVICE_WORD_BYTES_MAX} each"
            );
            section.faults.report_with_help("invalid_name", &entry.path, entry.key_place.clone(), message, help);
        }
        if let Some(amount) = amount(&entry) {
            requests.push(DeviceRequest { kind: kind.to_owned(), model: model.map(str::to_owned), amount });
        }
    }
    requests
}

fn amount(entry: &Entry<'_>) -> Option<DeviceAmount> {
    let text = entry.number_text()?;
    if text == "share" {
        return Some(DeviceAmount::Share);
    }
    let Some(millis) = thousandths(&text) else {
        let message = format!("`{}` is not an amount of devices", text.escape_debug());
        entry.invalid("wrong_unit", message, EXAMPLE);
        return None;
    };
    let whole = u64::from(WHOLE_DEVICE_MILLIS);
    let amount = match u32::try_from(millis / whole).ok().filter(|count| *count <= DEVICE_COUNT_MAX) {
        Some(0) if millis > 0 => u32::try_from(millis).ok().map(DeviceAmount::Millis),
        Some(count) if count > 0 && millis.is_multiple_of(whole) => Some(DeviceAmount::Whole(count)),
        Some(count) if count > 0 => {
            let message = format!("{text} is neither whole devices nor a part of one");
            entry.invalid("out_of_range", message, EXAMPLE);
            return None;
        }
        Some(_) | None => None,
    };
    if amount.is_none() {
        let message = format!("{text} is not between 0.001 and {DEVICE_COUNT_MAX}");
        entry.invalid("out_of_range", message, "");
    }
    amount
}
