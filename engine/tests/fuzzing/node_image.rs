//! How an input stands for a node.

/// Bytes in a node.
pub(crate) const SIZE: usize = 4096;
/// Bytes of its header.
const HEADER: usize = 64;

/// The node that an input stands for: header and slots at the front, as many as the
/// header says, and the rest at the end, where entries and fences are. So a small
/// node is a small input. `None`: the input is too short for a header.
pub(crate) fn node_image(data: &[u8]) -> Option<Vec<u8>> {
    let slots = u16::from_le_bytes(data.get(..HEADER)?[6..8].try_into().ok()?);
    let front = (HEADER + 8 * usize::from(slots)).min(data.len()).min(SIZE);
    let back = &data[front..data.len().min(SIZE)];
    let mut image = vec![0; SIZE];
    image[..front].copy_from_slice(&data[..front]);
    image[SIZE - back.len()..].copy_from_slice(back);
    Some(image)
}

/// The shortest input that stands for this node.
#[allow(dead_code, reason = "for whoever makes seeds")]
pub(crate) fn input(image: &[u8]) -> Vec<u8> {
    let slots = usize::from(u16::from_le_bytes([image[6], image[7]]));
    let heap = usize::from(u16::from_le_bytes([image[36], image[37]])) * 8;
    let (front, back) = (&image[..HEADER + 8 * slots], &image[heap..]);
    [front, back].concat()
}
