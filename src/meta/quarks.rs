//! Labels as GLib's quarks.

use gst::glib;

use crate::model::Labels;

/// The quarks of a model's labels: they are never freed, so that each label becomes one once.
#[derive(Default)]
pub struct LabelQuarks(Vec<Option<glib::Quark>>);

impl LabelQuarks {
    pub fn of(&mut self, class_id: u32, labels: &Labels) -> glib::Quark {
        let class = class_id as usize;
        if self.0.len() <= class {
            self.0.resize(class + 1, None);
        }
        *self.0[class].get_or_insert_with(|| glib::Quark::from_str(labels.get(class_id)))
    }
}
