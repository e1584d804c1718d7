//! `ro-crate-metadata.json`: who, what and when about a release, as linked data that catalogues read.
//!
//! Terms are RO-Crate 1.1's (schema.org), actions as Process Run Crate 0.5 and the Five Safes profile 0.4 have them: the run
//! is a `CreateAction` whose instrument is the plan, and each check is an `AssessAction` by whoever did it. The five safes
//! themselves are five entities, each with its evidence.
//!
//! Where the two profiles ask for different things: the Five Safes profile stands on RO-Crate 1.2 and the Process Run Crate
//! on 1.1; the descriptor names 1.1, and no term here means another thing in 1.2. The plan is a Workflow RO-Crate of
//! its own under `workflow/`, in a language of ours; the Five Safes profile would rather have CWL or Nextflow.
//!
//! Nothing here is signed. It is made from signed files and names each of them.

use cohortium_messages::{Author, Fact, Name, Timestamp, canonical_bytes};
use serde_json::{Value, json};

use crate::export::attest::key_uri;
use crate::export::parts::{self, Parts};
use crate::export::{AMENDMENTS, Case, ExportError, entry_path};

const METADATA: &str = "ro-crate-metadata.json";
const CONTEXT: &str = "https://w3id.org/ro/crate/1.1/context";
const CRATE_VERSION: &str = "https://w3id.org/ro/crate/1.1";
const PROCESS_RUN: &str = "https://w3id.org/ro/wfrun/process/0.5";
const FIVE_SAFES: &str = "https://w3id.org/5s-crate/0.4";
const WORKFLOW_CRATE: &str = "https://w3id.org/workflowhub/workflow-ro-crate/1.0";

/// One of the five safes, with its evidence.
pub(crate) struct Safe {
    /// Paths in the crate.
    pub evidence: Vec<String>,
    pub id: &'static str,
    pub name: &'static str,
    pub words: String,
}

/// People, project, data, setting, output.
pub(crate) fn safes(case: &Case<'_>, parts: &Parts) -> [Safe; 5] {
    let (agreement, task, document) = (case.agreement, &case.task.task, &case.released.document);
    let entries = |kind: &str| -> Vec<String> {
        let leaves = case.leaves().filter(|leaf| leaf.claims().fact.kind() == kind);
        leaves.map(entry_path).collect()
    };
    let with = |first: &[&str], more: Vec<String>| -> Vec<String> {
        first.iter().map(|path| String::from(*path)).chain(more).collect()
    };
    let statements = |prefix: &str| parts.under(prefix).map(String::from).collect::<Vec<_>>();
    let purposes: Vec<String> = agreement.purposes.iter().map(ToString::to_string).collect();
    let terms = &agreement.secure_sum;
    [
        Safe {
            evidence: with(&["agreement.json", "task.json"], entries("task")),
            id: "#safe-people",
            name: "Safe people",
            words: format!(
                "{} may ask: all {} custodians signed an agreement that states this researcher's key, and the question is \
                 signed with it.",
                task.researcher,
                agreement.parties.len()
            ),
        },
        Safe {
            evidence: with(
                &["agreement.json", "policy.cedar"],
                [entries("agreement"), entries("permit"), statements("attestations/permit-")].concat(),
            ),
            id: "#safe-project",
            name: "Safe project",
            words: format!(
                "The question is for {}; the agreement permits {}. Every node's own policy permitted it before anything was read.",
                task.purpose,
                purposes.join(", ")
            ),
        },
        Safe {
            evidence: with(&["agreement.json"], entries("permit")),
            id: "#safe-data",
            name: "Safe data",
            words: format!(
                "The agreement leaves the rows of {} at their organisations. Each node committed, with a salt that it keeps, to the rows that it \
                 would read. Columns, bounds and roles are those of the agreement.",
                task.plan.dataset
            ),
        },
        Safe {
            evidence: with(
                &["workflow/plan.json", "log/checkpoint", "log/log-policy.txt"],
                [statements(AMENDMENTS), statements("receipts/")].concat(),
            ),
            id: "#safe-setting",
            name: "Safe setting",
            words: format!(
                "By its signed receipt, each organisation in the total ran this plan beside its own rows and sent a noised vector \
                 under a mask. {} of {} must stay, and {} may collude with the hub.",
                terms.threshold,
                agreement.parties.len(),
                terms.colluders
            ),
        },
        Safe {
            evidence: with(
                &["release.json", "attestations/release.json"],
                [entries("price"), entries("release")].concat(),
            ),
            id: "#safe-output",
            name: "Safe output",
            words: format!(
                "What left is a sum over {} organisations with noise of variance {} (in steps of the lattice squared) in each \
                 number, paid for at each of them by \u{3b5} = {} at \u{3b4} = {}.",
                document.survivors.len(),
                document.noise_variance,
                case.task.priced.as_ref().map_or(0.0, |priced| priced.facts().epsilon_micro as f64 / 1e6),
                agreement.budgets.delta
            ),
        },
    ]
}

/// Adds the metadata, when all files that it describes are there.
pub(crate) fn write(case: &Case<'_>, parts: &mut Parts) -> Result<(), ExportError> {
    let mut graph = vec![descriptor(), root(case, parts)];
    graph.extend(profiles());
    graph.extend(people(case));
    graph.extend(run(case, parts));
    graph.extend(checks(case));
    graph.extend(safes(case, parts).iter().map(|safe| {
        json!({"@id": safe.id, "@type": "CreativeWork", "description": safe.words, "isBasedOn": ids(&safe.evidence),
            "name": safe.name})
    }));
    graph.extend(parts.0.iter().map(|(path, part)| {
        let kind = if path == "ro-crate-preview.html" { "CreativeWork" } else { "File" };
        json!({"@id": path, "@type": kind, "contentSize": part.bytes.len().to_string(), "encodingFormat": part.encoding,
            "name": part.name})
    }));
    put(parts, METADATA, "What this crate holds", &json!({"@context": CONTEXT, "@graph": graph}))
}

/// The plan as a Workflow RO-Crate of its own, inside the crate.
pub(crate) fn write_workflow(case: &Case<'_>, parts: &mut Parts) -> Result<(), ExportError> {
    let date = day(case.task.task.asked_at);
    let descriptor = json!({"@id": METADATA, "@type": "CreativeWork", "about": id("./"),
        "conformsTo": [id(CRATE_VERSION), id(WORKFLOW_CRATE)]});
    let root = json!({"@id": "./", "@type": "Dataset", "datePublished": date,
        "description": "What every node ran beside its rows: a closed plan, and the SQL that it was made from",
        "hasPart": [id("plan.json"), id("query.sql")], "license": id("#terms"), "mainEntity": id("plan.json"),
        "name": format!("Plan {}", case.task.plan.short())});
    let plan = json!({"@id": "plan.json", "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "encodingFormat": parts::JSON, "isBasedOn": id("query.sql"), "name": "The plan", "programmingLanguage": id("#plan-language"),
        "version": case.task.plan.to_string()});
    let sql = json!({"@id": "query.sql", "@type": "File", "encodingFormat": parts::SQL,
        "name": "The SQL that the plan was made from; no node parses it"});
    let language = json!({"@id": "#plan-language", "@type": "ComputerLanguage",
        "name": format!("Cohortium plan, version {}", case.task.task.plan.version)});
    let graph = json!([descriptor, root, plan, sql, language, terms(case)]);
    put(
        parts,
        "workflow/ro-crate-metadata.json",
        "The plan as a workflow",
        &json!({"@context": CONTEXT, "@graph": graph}),
    )
}

fn put(parts: &mut Parts, path: &str, name: &str, value: &Value) -> Result<(), ExportError> {
    // Canonical, so that the same evidence is the same bytes whatever else is compiled in.
    parts.put(path, name, "application/ld+json", canonical_bytes(value)?);
    Ok(())
}

fn descriptor() -> Value {
    json!({"@id": METADATA, "@type": "CreativeWork", "about": id("./"), "conformsTo": id(CRATE_VERSION)})
}

fn root(case: &Case<'_>, parts: &Parts) -> Value {
    let files = parts.0.keys().filter(|path| *path != "ro-crate-preview.html").map(|path| id(path));
    let actions = case
        .leaves()
        .filter(|leaf| matches!(leaf.claims().fact, Fact::Permit { .. }))
        .map(|leaf| id(&sign_off(leaf.index)));
    let checks = ["#check-log", "#check-rules", "#disclosure"].map(id);
    let safes = safes(case, parts).map(|safe| id(safe.id));
    let mentions: Vec<Value> = std::iter::once(id("#run")).chain(actions).chain(checks).chain(safes).collect();
    json!({
        "@id": "./",
        "@type": "Dataset",
        "author": id("#attester"),
        "conformsTo": [id(PROCESS_RUN), id(FIVE_SAFES)],
        "datePublished": offset(case.attester.at),
        "description": format!(
            "The release {} of study {} ({}), the question it answers, the agreement it rests on, and the log entries that \
             show who permitted it and what it cost",
            case.released.document.hash(), case.agreement.study, case.agreement.title
        ),
        "hasPart": std::iter::once(id("workflow/")).chain(files).collect::<Vec<Value>>(),
        "identifier": case.released.document.hash(),
        "license": id("#terms"),
        "mainEntity": id("workflow/"),
        "mentions": mentions,
        "name": format!("Evidence of a release of study {}", case.agreement.study),
        "sourceOrganization": id("#project"),
    })
}

fn profiles() -> [Value; 2] {
    [
        json!({"@id": PROCESS_RUN, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}),
        json!({"@id": FIVE_SAFES, "@type": "CreativeWork", "name": "Five Safes RO-Crate profile", "version": "0.4"}),
    ]
}

/// Organisations, researcher, hub, attester, and the project that they are in.
fn people(case: &Case<'_>) -> Vec<Value> {
    let agreement = case.agreement;
    let parties: Vec<&Name> = agreement.parties.iter().map(|party| &party.entry.organisation).collect();
    let members: Vec<Value> = parties.iter().map(|name| id(&organisation(name))).collect();
    let researcher = &case.task.task.researcher;
    let mut entities: Vec<Value> = parties
        .iter()
        .map(|name| json!({"@id": organisation(name), "@type": "Organization", "memberOf": id("#project"), "name": name}))
        .collect();
    entities.extend([
        json!({"@id": "#project", "@type": "Project", "description": agreement.title, "identifier": id("#agreement-hash"),
            "member": members, "name": agreement.study}),
        json!({"@id": "#agreement-hash", "@type": "PropertyValue", "name": "SHA-256 of the agreement's payload",
            "value": case.examined.given.agreement.hash()}),
        json!({"@id": format!("#researcher-{researcher}"), "@type": "Person", "memberOf": id("#project"), "name": researcher}),
        json!({"@id": "#hub", "@type": "Organization", "description": "Coordinates and keeps the log; holds no data",
            "name": agreement.hub.hub}),
        json!({"@id": "#attester", "@type": "Person", "identifier": key_uri(&case.attester.key.public()),
            "name": case.attester.name}),
        json!({"@id": "#audit", "@type": "SoftwareApplication", "name": "cohortium-audit",
            "softwareVersion": env!("CARGO_PKG_VERSION")}),
        terms(case),
    ]);
    entities
}

fn terms(case: &Case<'_>) -> Value {
    let purposes: Vec<String> = case.agreement.purposes.iter().map(ToString::to_string).collect();
    json!({"@id": "#terms", "@type": "CreativeWork", "name": "Terms of the agreement",
    "description": format!(
        "Use is governed by the agreement of study {}, SHA-256 {}, for the purposes {} (GA4GH Data Use Ontology)",
        case.agreement.study, case.examined.given.agreement.hash(), purposes.join(", ")
    )})
}

/// The run: from the question to the release, by the plan.
fn run(case: &Case<'_>, parts: &Parts) -> Vec<Value> {
    let (task, document) = (&case.task.task, &case.released.document);
    let inside: Vec<Value> = parts.under("workflow/").map(id).collect();
    let results: Vec<Value> = parts.under("answer.json").chain(["release.json"]).map(id).collect();
    vec![
        json!({"@id": "workflow/", "@type": ["Dataset", "SoftwareSourceCode"], "conformsTo": id(WORKFLOW_CRATE),
            "description": "The plan that every node ran, as a Workflow RO-Crate of its own", "hasPart": inside,
            "name": "The plan", "version": case.task.plan.to_string()}),
        json!({"@id": "#run", "@type": "CreateAction", "actionStatus": "http://schema.org/CompletedActionStatus",
            "agent": id(&format!("#researcher-{}", task.researcher)),
            "description": format!("The plan, run at {} organisations over {}, and its results added up under masks",
                document.survivors.len(), task.plan.dataset),
            "endTime": offset(document.released_at), "instrument": id("workflow/"),
            "name": format!("Task {}", task.hash().short()), "object": [id("task.json"), id("#dataset")], "result": results,
            "startTime": offset(task.asked_at)}),
        json!({"@id": "#dataset", "@type": "Dataset", "name": task.plan.dataset,
            "description": "Held by each organisation for itself; the permits commit to its rows. Not in this crate."}),
    ]
}

/// Who checked what: each node before it ran, the policy before the release, the attester afterwards.
fn checks(case: &Case<'_>) -> Vec<Value> {
    let kind = |term: &str| id(&format!("https://w3id.org/shp#{term}"));
    let completed = "http://schema.org/CompletedActionStatus";
    let mut actions = vec![
        json!({"@id": "#check-log", "@type": "AssessAction", "actionStatus": completed, "additionalType": kind("CheckValue"),
            "agent": id("#attester"), "endTime": offset(case.attester.at), "instrument": id("#audit"),
            "name": "Hashes, signatures and cosignatures of the whole log: as they must be",
            "object": [id("log/checkpoint"), id("log/log-policy.txt")]}),
        json!({"@id": "#check-rules", "@type": "AssessAction", "actionStatus": completed,
            "additionalType": kind("ValidationCheck"), "agent": id("#attester"), "endTime": offset(case.attester.at),
            "instrument": id("#audit"),
            "name": "Permits, prices, accounts and release follow from question and agreement: approved",
            "object": [id("./"), id("agreement.json")], "result": id("verification.json")}),
        json!({"@id": "#disclosure", "@type": "AssessAction", "actionStatus": completed,
            "additionalType": kind("DisclosureCheck"), "agent": id("#hub"),
            "endTime": offset(case.released.document.released_at), "instrument": id("policy.cedar"),
            "name": "Noise, price, receipts and consents demanded before the release: approved", "object": id("release.json")}),
    ];
    for leaf in case.leaves() {
        let (Fact::Permit { .. }, Author::Node(node)) = (&leaf.claims().fact, &leaf.claims().author) else { continue };
        actions.push(json!({"@id": sign_off(leaf.index), "@type": "AssessAction", "actionStatus": completed,
            "additionalType": kind("SignOff"), "agent": id(&organisation(node)), "endTime": offset(leaf.claims().time),
            "instrument": id("agreement.json"), "name": format!("Sign-off by the node of {node}: approved"),
            "object": [id("workflow/"), id("#project")], "result": id(&entry_path(leaf))}));
    }
    actions
}

fn sign_off(index: u64) -> String {
    format!("#sign-off-{index}")
}

fn organisation(name: &Name) -> String {
    format!("#organisation-{name}")
}

fn id(id: &str) -> Value {
    json!({"@id": id})
}

fn ids(paths: &[String]) -> Vec<Value> {
    paths.iter().map(|path| id(path)).collect()
}

/// A time with an offset in digits, as the Process Run Crate wants it.
fn offset(time: Timestamp) -> String {
    time.to_string().replace('Z', "+00:00")
}

fn day(time: Timestamp) -> String {
    time.to_string().chars().take(10).collect()
}
