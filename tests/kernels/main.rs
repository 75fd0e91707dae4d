//! The kernels give what the rules say. Here they run on the CPU, compiled from the same source; the tests
//! in tests/gpu run the same cases on a GPU.

#[path = "../decode/cases.rs"]
mod cases;
mod crop_cases;
mod decode_cases;
mod draw_cases;
mod emulated;
mod family_cases;
mod machine;
mod overlay_cases;
mod picture;
mod preprocess_cases;
mod random;

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

emulated! {
    preprocess_cases:
        every_format_at_odd_and_even_sizes,
        textures_give_what_linear_memory_gives,
        letterbox_centered_and_top_left,
        every_element_layout_and_channel_order,
        every_matrix_and_range,
        averaging_counts_every_sample,
        the_cpu_gives_the_same_numbers,
        a_batch_of_different_frames_in_one_launch,
    ;
    decode_cases:
        yolov5_in_both_element_types,
        ssd_in_both_element_types,
        each_image_of_a_batch_has_its_own_rules,
        equal_scores_go_by_anchor,
        without_candidates_there_are_no_detections,
        of_too_many_candidates_the_highest_count,
    ;
    family_cases:
        every_family_as_numpy_has_it,
        every_family_as_the_cpu_has_it_with_every_filter,
        implausible_outputs_leave_their_signs,
    ;
    crop_cases:
        copies_are_the_frame_s_own_samples,
        every_format_becomes_every_other_as_on_the_cpu,
        colours_follow_matrices_and_ranges,
        five_hundred_crops_in_one_launch,
        textures_give_the_same_crops,
        what_is_no_part_of_a_frame_is_refused,
    ;
    draw_cases:
        fills_and_masks_blend_in_every_format,
        more_primitives_than_a_block_takes_at_once_keep_their_order,
    ;
    overlay_cases:
        overlays_are_those_of_the_cpu_in_every_format,
        overlays_have_the_frame_s_colours_in_every_matrix_and_range,
        shapes_far_beyond_the_frame_are_drawn_as_on_the_cpu,
    ;
}
