//! Images whose parts are named by sha512.

use image::{Algorithm, GcPlan, InUse};

use crate::build::{Bench, Layer, Tar, chain};

fn tar(name: &str) -> Vec<u8> {
    Tar::default().file(name, name.as_bytes()).end()
}

fn sha512(tar: &[u8]) -> Layer {
    Layer { diff_id: Algorithm::Sha512.digest(tar), ..Layer::gzip(tar) }
}

fn nobody() -> std::io::Result<InUse> {
    Ok(InUse::default())
}

#[test]
fn sha512_names_blobs_and_layers_beside_sha256() {
    let mut bench = Bench::new();
    bench.algorithm = Algorithm::Sha512;
    let name = bench.image("x", &[sha512(&tar("one")), Layer::gzip(&tar("two"))]);
    let image = bench.fetch(&name).unwrap();
    assert_eq!(image.id.digest().algorithm(), Algorithm::Sha256, "whatever the index says");
    assert_eq!(image.trees.iter().map(|tree| tree.hex().len()).collect::<Vec<_>>(), [128, 64]);
    for (layer, file) in image.layers.iter().zip(["one", "two"]) {
        assert!(layer.join(file).is_file());
    }
    let configurations = || std::fs::read_dir(bench.path("cas/blob/sha512")).unwrap().count();
    assert_eq!(configurations(), 1);
    let id = image.id;
    drop(image);

    let store = bench.store();
    assert_eq!(store.gc(&GcPlan::default(), nobody).unwrap(), image::GcReport::default());
    assert_eq!(store.image(id).unwrap().layers.len(), 2);
    let _names = store.remove(id).unwrap();
    assert_eq!(store.gc(&GcPlan::default(), nobody).unwrap().trees.len(), 2);
    assert_eq!(configurations(), 0);
    bench.assert_clean();
}

#[test]
fn a_wrong_sha512_is_found_wherever_it_stands() {
    let mut bench = Bench::new();
    let lie = Layer { diff_id: Algorithm::Sha512.digest(b"something else"), ..Layer::gzip(&tar("one")) };
    let name = bench.image("diff-id", &[lie]);
    let error = chain(&bench.fetch(&name).unwrap_err());
    assert!(error.contains("the image's configuration says sha512:"), "{error}");

    bench.algorithm = Algorithm::Sha512;
    let layer = sha512(&tar("two"));
    let name = bench.image("blob", std::slice::from_ref(&layer));
    let file = bench.path("oci/blobs/sha512").join(Algorithm::Sha512.digest(&layer.bytes).hex());
    let mut damaged = layer.bytes;
    damaged[12] ^= 1;
    std::fs::write(file, damaged).unwrap();
    let error = chain(&bench.fetch(&name).unwrap_err());
    assert!(error.contains("the layer is corrupt: what came has the digest sha512:"), "{error}");
    bench.assert_clean();
}
