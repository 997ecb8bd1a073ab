//! The form that the Firefox profiler (<https://profiler.firefox.com>) opens: one thread each, main value as weight.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use fxprof_processed_profile::{
    CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, Profile as Firefox, SamplingInterval, Timestamp, WeightType,
};

use super::model::{Profile, ValueUnit};
use super::view::View;

/// Weights are 32-bit there.
const MAX_WEIGHT: f64 = i32::MAX as f64;

/// `profile` for the Firefox profiler. When samples were taken isn't known: they stand a millisecond apart.
#[must_use]
pub fn encode(profile: &Profile, view: View) -> serde_json::Value {
    let (index, divisor, weight_type) = weight(profile);
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(profile.created_unix_s);
    let mut out = Firefox::new(&profile.cell.to_string(), start.into(), SamplingInterval::from_millis(1));
    out.set_product(&format!("heapgate {} profile", profile.kind));
    out.set_symbolicated(true);
    let zero = Timestamp::from_millis_since_reference(0.0);
    let process = out.add_process(&profile.cell.to_string(), 1, zero);
    let mut threads = BTreeMap::new();
    for (sample, at) in profile.samples.iter().zip(0_u32..) {
        let weight = (sample.values.get(index).copied().unwrap_or(0.0) / divisor).round().min(MAX_WEIGHT) as i32;
        if weight == 0 {
            continue;
        }
        let thread = *threads.entry(sample.thread).or_insert_with(|| {
            let name = sample.thread.and_then(|number| profile.threads.get(number as usize));
            let thread = out.add_thread(process, sample.thread.map_or(1, |number| number + 2), zero, name.is_none());
            out.set_thread_name(thread, name.map_or("all threads", String::as_str));
            out.set_thread_samples_weight_type(thread, weight_type.clone());
            thread
        });
        let names: Vec<_> = view.stack(profile, sample).into_iter().map(|name| out.intern_string(name)).collect();
        let frames = names.into_iter().map(|name| FrameInfo {
            frame: Frame::Label(name),
            category_pair: CategoryHandle::OTHER.into(),
            flags: FrameFlags::empty(),
        });
        let stack = out.intern_stack_frames(thread, frames);
        out.add_sample(thread, Timestamp::from_millis_since_reference(at.into()), stack, CpuDelta::ZERO, weight);
    }
    // Its own types always have a JSON form.
    serde_json::to_value(&out).unwrap_or_default()
}

/// Which value is the weight, by what it is divided, and what it is called there.
fn weight(profile: &Profile) -> (usize, f64, WeightType) {
    let main = profile.main_value();
    match profile.values.get(main).map(|value| value.unit) {
        Some(ValueUnit::Bytes) => (main, 1.0, WeightType::Bytes),
        // As samples; stalls as µs, since ms are whole there.
        Some(ValueUnit::Nanoseconds) => match profile.value_index("samples") {
            Some(samples) => (samples, 1.0, WeightType::Samples),
            None => (main, 1_000.0, WeightType::Samples),
        },
        _ => (main, 1.0, WeightType::Samples),
    }
}
