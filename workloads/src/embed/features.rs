//! A vector of a text without a model: its words, hashed into a fixed number of dimensions (Weinberger et al., "Feature
//! hashing for large scale multitask learning", ICML 2009). Cheap, and near for texts that share their words.

/// Adds up the words of `text` in `out`, regardless of case and punctuation, and scales it to length one.
pub fn hash_words(text: &str, out: &mut [f32]) {
    out.fill(0.0);
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        // FNV-1a, then the finalizer of MurmurHash3: the low bits choose the dimension, the highest the sign.
        let mut hash = word.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3)
        });
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        out[(hash as u32 as usize) % out.len()] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
    }
    let norm = dot(out, out).sqrt();
    if norm > 0.0 {
        out.iter_mut().for_each(|x| *x /= norm);
    }
}

/// The sum of products, in sixteen partial sums, which a compiler can keep in vector registers.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(text: &str) -> [f32; 256] {
        let mut out = [0.0; 256];
        hash_words(text, &mut out);
        out
    }

    #[test]
    fn case_and_punctuation_make_no_difference() {
        assert_eq!(hashed("Let there be light."), hashed("let there, BE light"));
    }

    #[test]
    fn shared_words_make_near() {
        let light = hashed("And God said, Let there be light: and there was light.");
        let near = dot(&light, &hashed("And God said, Let there be lights in the firmament"));
        let far = dot(&light, &hashed("Jesus wept."));
        assert!((dot(&light, &light) - 1.0).abs() < 1e-5);
        assert!(near > far + 0.2, "{near} {far}");
    }

    #[test]
    fn a_text_without_words_is_zero() {
        assert!(hashed("?!").iter().all(|&x| x == 0.0));
    }

    #[test]
    fn dot_takes_any_length() {
        let a: Vec<f32> = (0..19).map(|x| x as f32).collect();
        assert_eq!(dot(&a, &a), 2109.0);
        assert_eq!(dot(&[], &[]), 0.0);
    }
}
