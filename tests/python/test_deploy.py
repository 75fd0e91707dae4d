"""pipelines/deploy: what Kubernetes and Docker are given fits together and fits embed; run by tests/python.rs."""

import os
import re
import unittest

import yaml

REPOSITORY = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..")
PROBE = {"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold"}
#: The fields that Kubernetes' API has, of those that the manifest may want, by where they stand.
FIELDS = {
    "Deployment": {"apiVersion", "kind", "metadata", "spec"},
    "ConfigMap": {"apiVersion", "kind", "metadata", "data"},
    "metadata": {"name", "labels", "annotations", "namespace"},
    "spec": {"replicas", "strategy", "selector", "template"},
    "template": {"metadata", "spec"},
    "pod": {"terminationGracePeriodSeconds", "securityContext", "containers", "volumes", "nodeSelector", "tolerations"},
    "pod.securityContext": {"runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "seccompProfile"},
    "container": {
        "name", "image", "command", "args", "env", "ports", "resources", "startupProbe", "livenessProbe",
        "readinessProbe", "securityContext", "volumeMounts",
    },
    "container.securityContext": {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"},
    "resources": {"requests", "limits"},
    "port": {"name", "containerPort", "protocol"},
    "volumeMount": {"name", "mountPath", "readOnly"},
    "volume": {"name", "configMap", "secret", "emptyDir", "persistentVolumeClaim"},
}  # fmt: skip


def read(name):
    with open(os.path.join(REPOSITORY, name)) as file:
        return file.read()


class Deploy(unittest.TestCase):
    def setUp(self):
        documents = list(yaml.safe_load_all(read("pipelines/deploy/kubernetes.yaml")))
        self.config, self.deployment = documents
        self.pod = self.deployment["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]

    def has_only(self, where, value):
        self.assertLessEqual(set(value), FIELDS[where], where)

    def test_every_field_is_one_that_kubernetes_has(self):
        self.assertEqual((self.config["apiVersion"], self.config["kind"]), ("v1", "ConfigMap"))
        self.assertEqual((self.deployment["apiVersion"], self.deployment["kind"]), ("apps/v1", "Deployment"))
        for document in self.config, self.deployment:
            self.has_only(document["kind"], document)
            self.has_only("metadata", document["metadata"])
        template = self.deployment["spec"]["template"]
        for where, value in [
            ("spec", self.deployment["spec"]),
            ("template", template),
            ("metadata", template["metadata"]),
            ("pod", self.pod),
            ("pod.securityContext", self.pod["securityContext"]),
            ("container", self.container),
            ("container.securityContext", self.container["securityContext"]),
            ("resources", self.container["resources"]),
            *(("port", each) for each in self.container["ports"]),
            *(("volumeMount", each) for each in self.container["volumeMounts"]),
            *(("volume", each) for each in self.pod["volumes"]),
        ]:
            self.has_only(where, value)
        for annotation in template["metadata"]["annotations"].values():
            self.assertIsInstance(annotation, str)

    def test_names_that_refer_to_each_other_are_the_same(self):
        selected = self.deployment["spec"]["selector"]["matchLabels"]
        labels = self.deployment["spec"]["template"]["metadata"]["labels"]
        self.assertLessEqual(selected.items(), labels.items())
        volumes = {each["name"]: each for each in self.pod["volumes"]}
        self.assertEqual({each["name"] for each in self.container["volumeMounts"]}, set(volumes))
        self.assertEqual(volumes["cameras"]["configMap"]["name"], self.config["metadata"]["name"])
        self.assertEqual(self.container["resources"]["limits"]["nvidia.com/gpu"], 1)
        ports = {each["name"]: each["containerPort"] for each in self.container["ports"]}
        (arguments,) = self.container["args"]
        self.assertIn(f"--metrics 0.0.0.0:{ports['metrics']} ", arguments)
        self.assertIn("< /etc/rsdetectnet/cameras ", arguments)
        self.assertIn("cameras", self.config["data"])
        self.assertNotIn("\n", arguments)
        annotations = self.deployment["spec"]["template"]["metadata"]["annotations"]
        self.assertEqual(annotations["prometheus.io/port"], str(ports["metrics"]))

    def test_probes_and_cameras_are_what_embed_understands(self):
        program = read("pipelines/embed.rs")
        for probe, path in [("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")]:
            self.assertLessEqual(set(self.container[probe]), PROBE)
            self.assertEqual(self.container[probe]["httpGet"], {"path": path, "port": "metrics"})
            self.assertIn(f'"{path}" ', program)
        startup = self.container["startupProbe"]
        self.assertGreaterEqual(startup["periodSeconds"] * startup["failureThreshold"], 600)
        for line in self.config["data"]["cameras"].splitlines():
            self.assertRegex(line, r"^add [A-Za-z0-9-]+ rtspt?://\S+$")

    def test_the_image_has_what_the_pod_runs(self):
        dockerfile = read("pipelines/deploy/Dockerfile")
        lines = dockerfile.replace("\\\n", " ").splitlines()
        known = "ARG FROM RUN COPY ENV WORKDIR SHELL USER VOLUME EXPOSE ENTRYPOINT".split()
        instructions = [line for line in lines if line.strip() and not line.startswith("#")]
        for line in instructions:
            self.assertIn(line.split()[0], known)
        self.assertEqual([line.split()[0] for line in instructions][:2], ["ARG", "FROM"])
        self.assertIn("USER 10001:10001", lines)
        self.assertEqual(self.pod["securityContext"]["runAsUser"], 10001)
        self.assertTrue(any("install" in line and "/var/cache/rsdetectnet" in line for line in lines))
        mounts = [each["mountPath"] for each in self.container["volumeMounts"]]
        self.assertIn(re.search(r"^VOLUME (\S+)$", dockerfile, re.MULTILINE)[1], mounts)
        self.assertIn(f"EXPOSE {self.container['ports'][0]['containerPort']}", lines)
        self.assertIn("/source/target/release/examples/embed /usr/local/bin/", dockerfile)
        for line in instructions:
            if "apt-get install" in line:
                self.assertTrue("--no-install-recommends" in line and "rm -rf /var/lib/apt/lists/*" in line)


if __name__ == "__main__":
    unittest.main()
