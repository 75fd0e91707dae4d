//! The cases that run on a CPU and on a GPU alike; those of the overlay have a test of their own on a GPU.

/// Calls a macro with the modules and the cases in them.
macro_rules! cases {
    ($tests:ident) => {
        $tests! {
            preprocess_cases:
                every_format_at_odd_and_even_sizes,
                textures_give_what_linear_memory_gives,
                letterbox_centered_and_top_left,
                every_element_layout_and_channel_order,
                every_matrix_and_range,
                averaging_counts_every_sample,
                the_cpu_gives_the_same_numbers,
                frames_of_common_sizes_give_the_bits_of_the_cpu,
                a_batch_of_different_frames_in_one_launch,
                parts_give_what_they_would_give_as_frames,
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
            thumbnail_cases:
                every_format_at_every_kind_of_side,
                every_side_of_frames_that_are_smaller_and_larger,
                every_matrix_and_range_of_thumbnails,
                boxes_at_edges_of_single_pixels_and_whole_frames,
                many_areas_of_many_frames_in_as_few_launches_as_they_fit,
                black_white_and_what_lies_beyond_them,
            ;
        }
    };
}
