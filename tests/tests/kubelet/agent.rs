//! A kubelet in a node: its directory of manifests, its process, and what it answers.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Child, Test};

/// The back-off that tests have time for.
const BACK_OFF: &str = "1:4:60";

/// A v1 Pod. Its grace period is short: a shell that waits is slow to die.
pub(crate) fn pod(name: &str, containers: Value, extra: Value) -> Value {
    let mut spec = json!({"containers": containers, "terminationGracePeriodSeconds": 1});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

/// The state of the first container of a status.
pub(crate) fn container_state(status: &Value) -> &Value {
    &status["containerStatuses"][0]["state"]
}

/// The state of one container of a status.
pub(crate) fn state_of<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["containerStatuses"].as_array();
    all.and_then(|all| all.iter().find(|c| c["name"] == name)).map_or(&Value::Null, |c| &c["state"])
}

/// A kubelet that runs in the node of a test.
pub(crate) struct Agent<'t> {
    test: &'t Test<'t>,
    port: u16,
    flags: Vec<String>,
    child: Option<Child>,
}

impl<'t> Agent<'t> {
    pub(crate) fn start(test: &'t Test<'t>) -> Self {
        Self::start_with(test, &[])
    }

    /// With more flags than usual.
    pub(crate) fn start_with(test: &'t Test<'t>, flags: &[&str]) -> Self {
        static PORT: AtomicU16 = AtomicU16::new(21000);
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let flags = flags.iter().map(|&f| f.to_owned()).collect();
        let mut agent = Self { test, port, flags, child: None };
        let _ = test.run(&["mkdir", "-p", &agent.manifests()]).ok();
        agent.restart();
        agent
    }

    /// Starts it once more, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        self.spawn();
        self.wait("the kubelet to answer", Duration::from_secs(30), || {
            self.test.run(&["curl", "-s", &self.url("/healthz")]).stdout == "ok"
        });
    }

    /// Starts it once more.
    pub(crate) fn spawn(&mut self) {
        let scratch = self.test.scratch();
        let script = format!("exec kubelet \"$@\" 2>{scratch}/kubelet.log");
        let arguments = [
            format!("--pod-manifest-path={}", self.manifests()),
            format!("--rkt-dir={}", self.test.data()),
            format!("--root-dir={scratch}/kubelet"),
            format!("--healthz-port={}", self.port),
            format!("--crash-loop-back-off={BACK_OFF}"),
            "--container-runtime=rkt".to_owned(),
            "--hostname-override=n1".to_owned(),
        ];
        let mut argv = vec!["sh", "-c", &script, "kubelet"];
        argv.extend(arguments.iter().chain(&self.flags).map(String::as_str));
        self.child = Some(self.test.command(&argv).spawn().unwrap());
    }

    /// `kill -9`, of the kubelet alone.
    pub(crate) fn kill(&mut self) {
        self.end(9);
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        self.end(15);
    }

    fn end(&mut self, signal: i32) {
        let child = self.child.take().unwrap();
        child.signal(signal).unwrap();
        drop(child.wait(Duration::from_secs(20)).unwrap());
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn manifests(&self) -> String {
        format!("{}/manifests", self.test.scratch())
    }

    pub(crate) fn write(&self, name: &str, manifest: &Value) {
        self.write_text(name, &manifest.to_string());
    }

    /// As editors do it: beside, and then in place.
    pub(crate) fn write_text(&self, name: &str, text: &str) {
        let path = format!("{}/{name}", self.manifests());
        let beside = format!("{}/.{name}.new", self.manifests());
        self.test.write_file(&beside, text);
        let _ = self.test.run(&["mv", &beside, &path]).ok();
    }

    pub(crate) fn remove(&self, name: &str) {
        let _ = self.test.run(&["rm", &format!("{}/{name}", self.manifests())]).ok();
    }

    /// What it has said since it was started last.
    pub(crate) fn log(&self) -> String {
        self.test.sh(&format!("cat {}/kubelet.log", self.test.scratch())).stdout
    }

    pub(crate) fn wait_log(&self, sentence: &str, patience: Duration) {
        self.wait(&format!("the log to say {sentence:?}"), patience, || self.log().contains(sentence));
    }

    pub(crate) fn pods(&self) -> Vec<Value> {
        let answer =
            self.test.run(&["curl", "-sf", "--retry", "20", "--retry-connrefused", &self.url("/pods")]);
        let list: Value = serde_json::from_str(answer.ok()).unwrap();
        assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("PodList"), Some("v1")));
        list["items"].as_array().unwrap().clone()
    }

    fn pod(&self, name: &str) -> Option<Value> {
        let name = format!("{name}-n1");
        self.pods().into_iter().find(|p| p["metadata"]["name"] == name)
    }

    pub(crate) fn uid(&self, name: &str) -> String {
        self.pod(name).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// What the journal has of a container.
    pub(crate) fn output(&self, pod: &str, container: &str) -> String {
        let matches = [format!("K8S_POD_UID={}", self.uid(pod)), format!("K8S_CONTAINER_NAME={container}")];
        self.test.run(&["journalctl", "-o", "cat", &matches[0], &matches[1]]).stdout
    }

    /// The rkt pod behind a pod.
    pub(crate) fn uuid(&self, name: &str) -> String {
        let pod = self.pod(name).unwrap();
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
        id.strip_prefix("rkt://").unwrap().split(':').next().unwrap().to_owned()
    }

    pub(crate) fn wait_phase(&self, name: &str, phase: &str, patience: Duration) -> Value {
        self.wait_status(name, &format!("the phase {phase}"), patience, |s| s["phase"] == phase)
    }

    pub(crate) fn wait_status(
        &self,
        name: &str,
        what: &str,
        patience: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_pod(name, what, patience, |p| is(&p["status"]))["status"].clone()
    }

    pub(crate) fn wait_pod(
        &self,
        name: &str,
        what: &str,
        patience: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let begun = Instant::now();
        loop {
            let pod = self.pod(name).unwrap_or_default();
            if is(&pod) {
                return pod;
            }
            assert!(begun.elapsed() < patience, "waiting for {what} of {name}: {pod:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn wait(&self, what: &str, patience: Duration, is: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is() {
            assert!(begun.elapsed() < patience, "waiting for {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
