//! Text to documents: JSON or YAML, one or many per file, lists taken apart.
//!
//! A YAML stream is cut at its `---` lines before it is parsed, so that a syntax error spoils one document only. (At the
//! beginning of a line, `---` is a document marker wherever it stands: YAML 1.2, section 9.1.2.)

use serde_json::Value;

/// The YAML parser's time grows with the square of the brackets that are open. Nobody writes a tenth of this, not even
/// with unbalanced ones in texts.
const DEEPEST: usize = 5000;

/// A document that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// It is neither YAML nor JSON.
    #[error("not YAML")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// It is not an object of `v1` that holds pods.
    #[error("{0}")]
    Kind(String),
}

/// The pods of a file, each as a JSON value, or why there is none. Empty documents do not count.
pub(crate) fn pods(text: &str) -> Vec<Result<Value, DecodeError>> {
    let mut pods = Vec::new();
    if depth(text) > DEEPEST {
        return vec![wrong(format!("more than {DEEPEST} brackets are open at once"))];
    }
    for document in documents(text) {
        match document {
            Ok(Value::Null) => {}
            Ok(document) => take_apart(document, &mut pods),
            Err(e) => pods.push(Err(e.into())),
        }
    }
    pods
}

fn documents(text: &str) -> Vec<Result<Value, serde_yaml_ng::Error>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        // Several JSON documents one after another are not YAML.
        let json: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
        if let Ok(documents) = json {
            return documents.into_iter().map(Ok).collect();
        }
    }
    split(text).iter().map(|document| serde_yaml_ng::from_str(document)).collect()
}

fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let marker =
            line.strip_prefix("---").filter(|rest| rest.trim_start().len() < rest.len() || rest.is_empty());
        if let Some(rest) = marker {
            // What stands behind the marker belongs to the new document.
            documents.push(rest.to_owned());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
        }
    }
    documents
}

/// How many brackets are open at once, at most, were all of them syntax.
fn depth(text: &str) -> usize {
    let mut open = 0_usize;
    let mut most = 0;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// A list becomes its items; a pod stays a pod.
fn take_apart(document: Value, pods: &mut Vec<Result<Value, DecodeError>>) {
    let word = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (word("apiVersion").to_owned(), word("kind").to_owned());
    match (version.as_str(), kind.as_str()) {
        ("v1", "Pod") => pods.push(Ok(document)),
        ("v1", "List" | "PodList") => match document {
            Value::Object(mut list) => match list.remove("items") {
                Some(Value::Array(items)) => items.into_iter().for_each(|i| item(i, &kind, pods)),
                None | Some(Value::Null) => {}
                Some(_) => pods.push(wrong("items of a list must be a list".to_owned())),
            },
            _ => pods.push(wrong("not an object".to_owned())),
        },
        ("", "") => pods.push(wrong("not a Kubernetes object: apiVersion and kind are missing".to_owned())),
        _ => pods.push(wrong(format!(
            "apiVersion {:?}, kind {:?}: only v1 Pod and v1 List are understood",
            cut(&version),
            cut(&kind)
        ))),
    }
}

/// Items of a `PodList` need not say that they are pods.
fn item(mut item: Value, kind: &str, pods: &mut Vec<Result<Value, DecodeError>>) {
    if let ("PodList", Some(object)) = (kind, item.as_object_mut()) {
        let _ = object.insert("apiVersion".to_owned(), "v1".into());
        let _ = object.insert("kind".to_owned(), "Pod".into());
    }
    match item.get("kind").and_then(Value::as_str) {
        Some("Pod") => take_apart(item, pods),
        _ => pods.push(wrong("an item of a list is not a v1 Pod".to_owned())),
    }
}

fn wrong<T>(why: String) -> Result<T, DecodeError> {
    Err(DecodeError::Kind(why))
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the pods, or `!` for an error.
    fn names(text: &str) -> Vec<String> {
        let name = |pod: Result<Value, DecodeError>| match pod {
            Ok(pod) => pod["metadata"]["name"].as_str().unwrap_or("?").to_owned(),
            Err(_) => "!".to_owned(),
        };
        pods(text).into_iter().map(name).collect()
    }

    fn yaml(name: &str) -> String {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n")
    }

    #[test]
    fn many_documents() {
        let (a, b) = (yaml("a"), yaml("b"));
        let table = [
            (String::new(), vec![]),
            ("---\n# nothing\n---\n".to_owned(), vec![]),
            (a.clone(), vec!["a"]),
            (format!("\u{feff}{a}"), vec!["a"]),
            (format!("---\n{a}---\n{b}"), vec!["a", "b"]),
            (format!("{a}--- # second\n{b}...\n"), vec!["a", "b"]),
            (format!("{a}---\r\n{b}"), vec!["a", "b"]),
            (format!("{a}---\n\tnot: [yaml\n---\n{b}"), vec!["a", "!", "b"]),
            (format!("{a}---\njust text\n---\n{b}"), vec!["a", "!", "b"]),
            ("--- {apiVersion: v1, kind: Pod, metadata: {name: c}}".to_owned(), vec!["c"]),
        ];
        for (text, expected) in table {
            assert_eq!(names(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn json() {
        let pod =
            |name| format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}}}"#);
        assert_eq!(names(&pod("a")), ["a"]);
        assert_eq!(names(&format!("{}\n{}", pod("a"), pod("b"))), ["a", "b"]);
        assert_eq!(names(r#"{"apiVersion": "v1", "kind""#), ["!"]);
    }

    #[test]
    fn lists() {
        let list = |kind: &str, items: &str| format!("apiVersion: v1\nkind: {kind}\nitems: {items}\n");
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}}";
        assert_eq!(names(&list("List", &format!("[{pod}, {{kind: Secret}}]"))), ["a", "!"]);
        assert_eq!(names(&list("PodList", "[{metadata: {name: b}}, 7]")), ["b", "!"]);
        assert_eq!(names(&list("List", "null")), Vec::<String>::new());
        assert_eq!(names(&list("List", "7")), ["!"]);
    }

    #[test]
    fn what_is_no_pod_says_what_it_is() {
        let why = |text: &str| pods(text).remove(0).unwrap_err().to_string();
        assert!(why("apiVersion: apps/v1\nkind: Deployment\n").contains("kind \"Deployment\""));
        assert!(why("a: 1").contains("apiVersion and kind are missing"));
        assert_eq!(why("a: [").as_str(), "not YAML");
    }

    #[test]
    fn bombs_are_errors() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, before) in
            [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f"), ("h", "g"), ("i", "h")]
        {
            bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", "));
        }
        assert_eq!(names(&bomb), ["!"]);
        assert_eq!(names(&format!("a: {}", "[".repeat(100_000))), ["!"]);
    }
}
