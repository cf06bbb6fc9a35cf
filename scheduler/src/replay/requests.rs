//! The list of requests: one row is so many replicas of one shape, asked for at once.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    io::BufRead,
};

use crate::replay::{
    table::{Column, Faults, Row, Table},
    trace::{GPU_WHOLE, GPUS_MAX, Gpu, MEMORY_MIB_MAX, Request, Requirement, Shape},
};

/// The most replicas that one row may ask for.
const COUNT_MAX: u32 = 10_000_000;

const fn column(name: &'static str, aliases: &'static [&'static str], required: bool) -> Column {
    Column { name, aliases, required }
}

/// The columns. Aliases are the names of the public Alibaba trace of GPU clusters (2023).
pub(crate) const COLUMNS: &[Column] = &[
    column("name", &[], true),
    column("cpu_millis", &["cpu_milli"], true),
    column("memory_mib", &[], true),
    column("gpus", &["num_gpu"], false),
    column("gpu_millis", &["gpu_milli"], false),
    column("gpu_model", &["gpu_spec"], false),
    column("arch", &[], false),
    column("require", &[], false),
    column("count", &[], false),
    column("arrive", &["creation_time"], false),
    column("depart", &["deletion_time"], false),
];
const NAME: usize = 0;
const CPU: usize = 1;
const MEMORY: usize = 2;
const GPUS: usize = 3;
const GPU_MILLIS: usize = 4;
const GPU_MODEL: usize = 5;
const ARCH: usize = 6;
const REQUIRE: usize = 7;
const COUNT: usize = 8;
const ARRIVE: usize = 9;
const DEPART: usize = 10;

/// Reads all requests, and gives them in the order in which they arrive; those of one time in the order of the list.
pub(crate) fn read<R: BufRead>(table: &mut Table<R>, faults: &mut Faults) -> (Vec<Shape>, Vec<Request>) {
    let mut shapes = Vec::new();
    let mut known: BTreeMap<Shape, usize> = BTreeMap::new();
    let mut requests = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    let timed = table.has(ARRIVE);
    table.each(faults, |row, faults| {
        let (shape, mut request) = match shape(row).and_then(|shape| Ok((shape, request(row, timed)?))) {
            Ok(good) => good,
            Err(fault) => return faults.add(fault),
        };
        match lines.entry(row.text(NAME).to_owned()) {
            Entry::Occupied(first) => {
                return faults.add(row.at(&format!(
                    "the request `{}` is there already, in line {}; give each its own name, or write one row with a \
                     `count`",
                    first.key(),
                    first.get()
                )));
            }
            Entry::Vacant(place) => place.insert(row.line),
        };
        request.shape = *known.entry(shape).or_insert_with_key(|shape| {
            shapes.push(shape.clone());
            shapes.len() - 1
        });
        requests.push(request);
    });
    requests.sort_by_key(|request| request.arrive);
    (shapes, requests)
}

fn shape(row: &Row<'_>) -> Result<Shape, String> {
    if row.text(NAME).is_empty() {
        return Err(row.at("`name`: the cell is empty; give the request a name"));
    }
    let gpu = gpu(row)?;
    let mut require = Vec::new();
    for (key, column) in [("gpu_model", GPU_MODEL), ("arch", ARCH)] {
        let values = alternatives(row.text(column));
        if !values.is_empty() {
            require.push(Requirement { key: key.to_owned(), values, wanted: true });
        }
    }
    for text in row.text(REQUIRE).split(';').map(str::trim).filter(|text| !text.is_empty()) {
        require.push(requirement(text).ok_or_else(|| {
            row.at(&format!("`require`: `{text}` is no requirement; write key=value, key=one|other or key!=value"))
        })?);
    }
    Ok(Shape {
        cpu_millis: row.small(CPU, 0, u32::MAX)?,
        memory_mib: row.small(MEMORY, 0, MEMORY_MIB_MAX)?,
        gpu,
        require,
    })
}

/// Whole GPUs, or a part of one: `gpus` says how many, `gpu_millis` how much of each.
fn gpu(row: &Row<'_>) -> Result<Gpu, String> {
    let (count, millis) = (row.small(GPUS, 0, GPUS_MAX)?, row.small(GPU_MILLIS, 0, GPU_WHOLE)?);
    match (count, millis) {
        (0, 0) => Ok(Gpu::None),
        (0, GPU_WHOLE) => Ok(Gpu::Whole(1)),
        (_, 0 | GPU_WHOLE) => Ok(Gpu::Whole(count)),
        (0 | 1, _) => Ok(Gpu::Part(millis)),
        _ => Err(row.at(&format!(
            "`gpu_millis`: {millis} thousandths of {count} GPUs cannot be had; a part is of one GPU (gpus 1), more are \
             whole (gpu_millis 1000 or empty)"
        ))),
    }
}

fn request(row: &Row<'_>, timed: bool) -> Result<Request, String> {
    let count = row.small(COUNT, 1, COUNT_MAX)?;
    if count == 0 {
        return Err(row.at("`count`: nothing is asked for; write 1 or more, or leave the row out"));
    }
    let arrive = row.number(ARRIVE, 0, u64::MAX)?;
    let depart = if row.text(DEPART).is_empty() { None } else { Some(row.number(DEPART, 0, u64::MAX)?) };
    if depart.is_some() && (!timed || row.text(ARRIVE).is_empty()) {
        return Err(row.at("`depart`: a request that departs must arrive; write `arrive` too, in the same unit"));
    }
    if let Some(depart) = depart.filter(|depart| *depart < arrive) {
        return Err(row.at(&format!("`depart`: {depart} is before its arrival at {arrive}; write a later time")));
    }
    Ok(Request { shape: 0, count, arrive, depart })
}

fn requirement(text: &str) -> Option<Requirement> {
    let (key, values) = text.split_once('=')?;
    let (key, wanted) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
    let (key, values) = (key.trim().to_owned(), alternatives(values.trim_start_matches('=')));
    (!key.is_empty() && !values.is_empty()).then_some(Requirement { key, values, wanted })
}

fn alternatives(text: &str) -> Vec<String> {
    text.split('|').map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned).collect()
}
