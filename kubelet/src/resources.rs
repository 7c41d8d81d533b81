//! What a pod asks for and may use: quality of service, and the amounts that become unit properties.
//!
//! The rules are Kubernetes': a missing request is the limit; a pod's request is that of its containers together, or
//! that of its hungriest init container (with the sidecars that run by then) when that is more; a pod has a limit when
//! every container has one. Manifests were validated before: a quantity that does not parse counts as absent.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as RawQuantity;
use pod::unit::Qos;

use crate::quantity::Quantity;

/// CPU and memory of a container or a pod. `None`: nothing is asked for, or there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Milli-CPUs asked for.
    pub(crate) cpu_request: Option<u64>,
    /// Milli-CPUs that cannot be exceeded.
    pub(crate) cpu_limit: Option<u64>,
    /// Bytes asked for.
    pub(crate) memory_request: Option<u64>,
    /// Bytes that cannot be exceeded.
    pub(crate) memory_limit: Option<u64>,
}

/// Whether an init container is a sidecar: started in order, then kept.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

impl Resources {
    /// Those of one container.
    pub(crate) fn of_container(container: &Container) -> Self {
        let resources = container.resources.as_ref();
        let limit = |name| resources.and_then(|r| amount(r.limits.as_ref(), name));
        let request = |name| resources.and_then(|r| amount(r.requests.as_ref(), name)).or(limit(name));
        Self {
            cpu_request: request("cpu").map(Quantity::millis),
            cpu_limit: limit("cpu").map(Quantity::millis),
            memory_request: request("memory").map(Quantity::units),
            memory_limit: limit("memory").map(Quantity::units),
        }
    }

    /// Those of a whole pod.
    pub(crate) fn of_pod(spec: &PodSpec) -> Self {
        let of = |pick: fn(&Self) -> Option<u64>, missing: Missing| pod_amount(spec, pick, missing);
        Self {
            cpu_request: of(|r| r.cpu_request, Missing::IsNothing),
            cpu_limit: of(|r| r.cpu_limit, Missing::IsUnlimited),
            memory_request: of(|r| r.memory_request, Missing::IsNothing),
            memory_limit: of(|r| r.memory_limit, Missing::IsUnlimited),
        }
    }
}

/// What it means that one container does not say an amount.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    IsNothing,
    IsUnlimited,
}

fn pod_amount(spec: &PodSpec, pick: fn(&Resources) -> Option<u64>, missing: Missing) -> Option<u64> {
    let of = |c: &Container| match (pick(&Resources::of_container(c)), missing) {
        (None, Missing::IsNothing) => Some(0),
        (amount, _) => amount,
    };
    let mut sidecars = 0_u64;
    let mut initial = 0_u64;
    for init in spec.init_containers.iter().flatten() {
        let amount = of(init)?;
        if is_sidecar(init) {
            sidecars = sidecars.saturating_add(amount);
        }
        let now = if is_sidecar(init) { sidecars } else { sidecars.saturating_add(amount) };
        initial = initial.max(now);
    }
    let together = spec.containers.iter().try_fold(sidecars, |sum, c| Some(sum.saturating_add(of(c)?)))?;
    Some(together.max(initial)).filter(|amount| *amount > 0)
}

/// The class that Kubernetes puts a pod in.
pub(crate) fn qos(spec: &PodSpec) -> Qos {
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let says_something = |c: &Container| {
        let resources = c.resources.as_ref();
        let lists = [resources.and_then(|r| r.limits.as_ref()), resources.and_then(|r| r.requests.as_ref())];
        lists.into_iter().any(|l| amount(l, "cpu").is_some() || amount(l, "memory").is_some())
    };
    let is_guaranteed = |c: &Container| {
        let resources = c.resources.as_ref();
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = resources.and_then(|r| amount(r.limits.as_ref(), name));
            let request = resources.and_then(|r| amount(r.requests.as_ref(), name)).or(limit);
            limit.is_some() && limit == request
        })
    };
    if !all().any(says_something) {
        Qos::BestEffort
    } else if all().all(is_guaranteed) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// What all burstable pods among these ask for together, in milli-CPUs.
pub(crate) fn burstable_cpu<'a>(specs: impl Iterator<Item = &'a PodSpec>) -> u64 {
    let burstable = specs.filter(|spec| qos(spec) == Qos::Burstable);
    burstable.filter_map(|spec| Resources::of_pod(spec).cpu_request).fold(0, u64::saturating_add)
}

/// The OOM killer's preference for a container, `-1000` (never) to `1000` (first), as the Go kubelet computes it:
/// the more of the node's memory a burstable container asks for, the later it is chosen.
pub(crate) fn oom_score_adjust(qos: Qos, memory_request: Option<u64>, node_memory: u64) -> i32 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let share = u128::from(memory_request.unwrap_or(0)) * 1000 / u128::from(node_memory.max(1));
            let score = 1000 - i32::try_from(share.min(1000)).unwrap_or(1000);
            score.clamp(3, 999)
        }
    }
}

/// The amount of one resource. Nothing of it is as good as no word about it.
fn amount(list: Option<&BTreeMap<String, RawQuantity>>, name: &str) -> Option<Quantity> {
    list?.get(name)?.0.parse().ok().filter(|q: &Quantity| *q > Quantity::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    fn container(requests: serde_json::Value, limits: serde_json::Value) -> serde_json::Value {
        serde_json::json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn classes() {
        use serde_json::json;
        let full = json!({"cpu": "1", "memory": "1Gi"});
        let none = json!({"name": "c"});
        let table = [
            (json!({"containers": [none]}), Qos::BestEffort),
            (json!({"containers": [container(json!({"cpu": "0"}), json!({}))]}), Qos::BestEffort),
            (json!({"containers": [container(json!({}), full.clone())]}), Qos::Guaranteed),
            (
                json!({"containers": [container(json!({"cpu": "1000m", "memory": "1024Mi"}), full.clone())]}),
                Qos::Guaranteed,
            ),
            (json!({"containers": [container(json!({"cpu": "1m"}), full.clone())]}), Qos::Burstable),
            (json!({"containers": [container(json!({}), json!({"memory": "1Gi"}))]}), Qos::Burstable),
            (json!({"containers": [container(json!({}), full.clone()), none]}), Qos::Burstable),
            (
                json!({"containers": [container(json!({}), full.clone())], "initContainers": [none]}),
                Qos::Burstable,
            ),
            (
                json!({"containers": [none], "initContainers": [container(json!({"cpu": "1"}), json!({}))]}),
                Qos::Burstable,
            ),
        ];
        for (value, class) in table {
            assert_eq!(qos(&spec(value.clone())), class, "{value}");
        }
    }

    #[test]
    fn a_pod_needs_its_containers_together_or_its_hungriest_beginning() {
        use serde_json::json;
        let cpu = |n: &str| container(json!({ "cpu": n }), json!({}));
        let sidecar = |n: &str| {
            let mut c = cpu(n);
            c["restartPolicy"] = json!("Always");
            c
        };
        let request = |v| Resources::of_pod(&spec(v)).cpu_request;
        assert_eq!(request(json!({"containers": [cpu("1"), cpu("500m")]})), Some(1500));
        assert_eq!(
            request(json!({"containers": [cpu("1")], "initContainers": [cpu("3"), cpu("2")]})),
            Some(3000)
        );
        assert_eq!(
            request(json!({"containers": [cpu("1")], "initContainers": [sidecar("2"), cpu("3")]})),
            Some(5000)
        );
        assert_eq!(
            request(json!({"containers": [cpu("2")], "initContainers": [cpu("3"), sidecar("2")]})),
            Some(4000)
        );
        assert_eq!(request(json!({"containers": [{"name": "c"}]})), None);
    }

    #[test]
    fn a_pod_is_limited_when_every_container_is() {
        use serde_json::json;
        let limited = container(json!({}), json!({"memory": "1Mi"}));
        let limit = |v| Resources::of_pod(&spec(v)).memory_limit;
        assert_eq!(limit(json!({"containers": [limited, limited]})), Some(2 << 20));
        assert_eq!(limit(json!({"containers": [limited, {"name": "free"}]})), None);
        assert_eq!(limit(json!({"containers": [limited], "initContainers": [{"name": "free"}]})), None);
    }

    #[test]
    fn burstable_pods_together() {
        use serde_json::json;
        let pod = |requests, limits| spec(json!({"containers": [container(requests, limits)]}));
        let full = json!({"cpu": "4", "memory": "1Gi"});
        let pods = [
            pod(json!({"cpu": "250m"}), json!({})),
            pod(json!({"cpu": "1"}), full.clone()),
            pod(json!({}), full),
            pod(json!({}), json!({})),
        ];
        assert_eq!(burstable_cpu(pods.iter()), 1250);
    }

    #[test]
    fn oom_scores() {
        let gib = 1 << 30;
        assert_eq!(oom_score_adjust(Qos::Guaranteed, Some(gib), 4 * gib), -997);
        assert_eq!(oom_score_adjust(Qos::BestEffort, None, 4 * gib), 1000);
        assert_eq!(oom_score_adjust(Qos::Burstable, Some(gib), 4 * gib), 750);
        assert_eq!(oom_score_adjust(Qos::Burstable, None, 4 * gib), 999);
        assert_eq!(oom_score_adjust(Qos::Burstable, Some(8 * gib), 4 * gib), 3);
        assert_eq!(oom_score_adjust(Qos::Burstable, Some(1), 0), 3);
    }
}
