//! The `classes` property: which classes to keep, each with a threshold of its own if wanted.

use crate::model::Labels;

/// `person:0.4,car` in parts. Empty keeps every class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassFilter(Vec<(String, Option<f32>)>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClassFilterError {
    #[error(
        "classes='{0}' has an empty entry: write labels separated by commas, such as person:0.4,car"
    )]
    EmptyEntry(String),
    #[error("classes: the threshold of '{0}' is not a number from 0 to 1")]
    Threshold(String),
    #[error("classes: the model has no class '{name}'; it has {known}")]
    UnknownClass { name: String, known: String },
}

impl ClassFilter {
    pub fn parse(text: &str) -> Result<Self, ClassFilterError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',')
            .map(|entry| {
                let (name, threshold) = match entry.rsplit_once(':') {
                    Some((name, threshold)) => (name.trim(), Some(threshold.trim())),
                    None => (entry.trim(), None),
                };
                if name.is_empty() {
                    return Err(ClassFilterError::EmptyEntry(text.into()));
                }
                let threshold = threshold
                    .map(|t| t.parse().ok().filter(|t| (0.0..=1.0).contains(t)))
                    .map(|t| t.ok_or_else(|| ClassFilterError::Threshold(entry.trim().into())))
                    .transpose()?;
                Ok((name.to_owned(), threshold))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The least confidence of each class: `threshold` or the class's own; infinite for those not kept. Classes are
    /// named by label, or by number where no label is that number.
    pub fn thresholds(
        &self,
        labels: &Labels,
        threshold: f32,
    ) -> Result<Vec<f32>, ClassFilterError> {
        let classes = labels.as_slice().len();
        if self.0.is_empty() {
            return Ok(vec![threshold; classes]);
        }
        let mut thresholds = vec![f32::INFINITY; classes];
        for (name, own) in &self.0 {
            let class = labels
                .find(name)
                .or_else(|| name.parse().ok().filter(|class| *class < classes))
                .ok_or_else(|| ClassFilterError::UnknownClass {
                    name: name.clone(),
                    known: some_of(labels),
                })?;
            thresholds[class] = own.unwrap_or(threshold);
        }
        Ok(thresholds)
    }
}

/// The labels, or the first of very many.
fn some_of(labels: &Labels) -> String {
    const MOST: usize = 100;
    let labels = labels.as_slice();
    let mut list = labels[..labels.len().min(MOST)].join(", ");
    if labels.len() > MOST {
        list += &format!(" and {} more", labels.len() - MOST);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds(classes: &str) -> Result<Vec<f32>, ClassFilterError> {
        let labels = Labels::from_lines("person\nCar\nstop: sign");
        ClassFilter::parse(classes)?.thresholds(&labels, 0.5)
    }

    #[test]
    fn no_filter_keeps_every_class_at_the_common_threshold() {
        assert_eq!(thresholds(" ").unwrap(), [0.5; 3]);
    }

    #[test]
    fn classes_are_kept_by_label_or_number_with_their_own_thresholds() {
        let infinite = f32::INFINITY;
        assert_eq!(thresholds("person:0.4, car").unwrap(), [0.4, 0.5, infinite]);
        assert_eq!(thresholds("2").unwrap(), [infinite, infinite, 0.5]);
        assert_eq!(
            thresholds("stop: sign:1").unwrap(),
            [infinite, infinite, 1.0]
        );
    }

    #[test]
    fn mistakes_are_named() {
        let message = |classes| thresholds(classes).unwrap_err().to_string();
        assert!(message("person,,car").contains("empty entry"));
        assert!(message("person:1.5").contains("'person:1.5'"));
        assert!(message("person:nan").contains("number from 0 to 1"));
        assert!(message("dog").contains("no class 'dog'; it has person, Car"));
        assert!(message("3").contains("no class '3'"));
        let many = Labels::numbered(256);
        let error = ClassFilter::parse("dog").unwrap().thresholds(&many, 0.5);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .ends_with("class 99 and 156 more")
        );
    }
}
