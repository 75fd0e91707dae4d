//! The kernels give what the rules say. Here they run on the CPU, compiled from the same source; the tests
//! in tests/gpu run the same cases on a GPU.

#[macro_use]
mod cases;
mod crop_cases;
mod decode_cases;
mod draw_cases;
mod emulated;
mod family_cases;
mod machine;
#[path = "../decode/cases.rs"]
mod numpy_cases;
mod overlay_cases;
mod picture;
mod preprocess_cases;
mod random;
mod thumbnail_cases;

use emulated::Emulated;

/// One test for each case.
macro_rules! emulated {
    ($($module:ident: $($case:ident,)*;)*) => {
        $($(
            #[test]
            fn $case() {
                $module::$case(&Emulated::default());
            }
        )*)*
    };
}

cases!(emulated);

emulated! {
    overlay_cases:
        overlays_are_those_of_the_cpu_in_every_format,
        overlays_have_the_frame_s_colours_in_every_matrix_and_range,
        shapes_far_beyond_the_frame_are_drawn_as_on_the_cpu,
    ;
}
