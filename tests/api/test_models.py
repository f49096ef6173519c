import pytest

from tests.api.contract import conforms, refused
from tests.servers import BASE, EXAMPLES, create_endpoint, upload, wait_job

TOGETHER = {"user-agent": "Together/Python 2.42.0"}


def test_together_clients_get_the_catalogue_as_an_array(http, adapter):
    everything = http.get("/v1/models", headers=TOGETHER).json()
    conforms(everything, "ModelInfoList")
    assert {BASE, adapter} <= {item["id"] for item in everything}
    dedicated = http.get("/v1/models?dedicated=true", headers=TOGETHER).json()
    assert BASE in [item["id"] for item in dedicated]
    assert adapter not in [item["id"] for item in dedicated]


def test_openai_clients_get_what_can_be_called(http, adapter, endpoint):
    answer = http.get("/v1/models").json()
    assert answer["object"] == "list"
    ids = [item["id"] for item in answer["data"]]
    assert adapter not in ids
    assert endpoint["name"] not in ids


def test_a_model_says_what_is_known_of_it(http, adapter, endpoint):
    for reference in ("tester%2Fcontract-test", "tester/contract-test", "contract-test"):
        model = http.get(f"/v1/models/{reference}").json()
        assert (model["id"], model["kind"], model["state"], model["base_model"]) == (adapter, "adapter", "READY", BASE)
        assert model["rank"] > 0
        assert model["attached_to"] is None
    assert http.get(f"/v1/models/{BASE}").json()["id"] == BASE
    refused(http.get("/v1/models/none"), 404, "Could not find model", type="not_found")


def test_an_upload_answers_with_its_job_and_attaches_when_asked(http, endpoint):
    files = [("files", (file.name, file.read_bytes())) for file in (EXAMPLES / "pirate").iterdir()]
    fields = {"model_name": "to-attach", "lora_model": endpoint["name"]}
    response = http.post("/v1/models/upload", data=fields, files=files)
    conforms(response.json(), "ModelUploadSuccessResponse")
    job = wait_job(http, response.json()["data"]["job_id"])
    conforms(job, "JobInfoSuccessResponse")
    assert (job["status"], job["type"]) == ("Complete", "adapter_upload"), job
    assert job["job_id"] in [item["job_id"] for item in http.get("/v1/jobs").json()["data"]]
    conforms(http.get("/v1/jobs").json(), "JobsInfoSuccessResponse")
    body = {"model_id": f"{endpoint['name']}:tester/to-attach"}
    path = f"/v1/endpoints/{endpoint['id']}/adapters"
    attached = {
        **body,
        "adapter_name": "tester/to-attach",
        "endpoint_name": endpoint["name"],
        "replicas": {},
        "message": None,
    }
    assert http.get(path).json()["data"] == [attached]
    refused(http.delete("/v1/models/to-attach"), 400, endpoint["name"], "remove it there first")
    assert http.request("DELETE", path, json=body).status_code == 200
    for _ in range(200):
        answer = http.delete("/v1/models/to-attach")
        if answer.status_code == 200:
            break
    assert answer.json() == {"id": "tester/to-attach", "deleted": True}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora_enabled": False}, "endpoint does not have LoRA enabled"),
        ({"visibility": "public"}, "new_lora_model cannot be a public dedicated endpoint"),
        ({"type": "serverless"}, "new_lora_model must be a dedicated endpoint"),
    ],
    ids=str,
)
def test_an_unsuitable_lora_model_is_refused_before_anything_is_uploaded(http, change, words):
    target = create_endpoint(http, state="STOPPED", **change)
    body = {"model_name": "nowhere", "model_source": "org/repo", "lora_model": target["id"]}
    refused(http.post("/v1/models", json=body), 400, words)
    assert http.delete(f"/v1/endpoints/{target['id']}").status_code == 204
    refused(http.post("/v1/models", json=body), 404, "No endpoint with this id exists", type="not_found")
    refused(http.get("/v1/models/nowhere"), 404, type="not_found")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_name": None}, "model_name"),
        ({"model_name": "a:b"}, "is not usable"),
        ({"model_name": "../up"}, "is not usable"),
        ({"model_name": "stranger/x"}, "is not usable"),
        ({"model_source": None}, "model_source"),
        ({"model_type": "lora"}, "'model' or 'adapter'"),
        ({"base_model": "no such:name"}, "base_model"),
        ({"model_type": "model", "base_model": BASE}, "base_model is for adapters"),
    ],
    ids=str,
)
def test_wrong_uploads_are_refused(http, change, words):
    refused(http.post("/v1/models", json={"model_name": "wrong", "model_source": "org/repo", **change}), 400, words)


def test_a_token_is_never_shown(http):
    body = {"model_name": "secret", "model_source": "org/repo", "hf_token": ["hf_secret"]}
    assert "hf_secret" not in refused(http.post("/v1/models", json=body), 400, "hf_token")


def test_a_used_name_is_refused_and_free_again_after_deletion(http, adapter):
    body = {"model_name": "contract-test", "model_source": "org/repo"}
    refused(http.post("/v1/models", json=body), 400, adapter, "loradock models delete")
    assert http.delete("/v1/models/contract-test").status_code == 200
    assert upload(http, "contract-test", EXAMPLES / "pirate")["status"] == "Complete"


@pytest.mark.parametrize(
    ("fields", "words"),
    [({}, "model_name"), ({"model_name": "x", "model_type": "lora"}, "give adapter or model")],
    ids=str,
)
def test_wrong_file_uploads_are_refused(http, fields, words):
    refused(http.post("/v1/models/upload", data=fields, files={"files": ("a.txt", b"x")}), 400, words)


def test_broken_multipart_is_refused(http):
    headers = {"content-type": "multipart/form-data"}
    refused(http.post("/v1/models/upload", content=b"x", headers=headers), 400, "request body")


def test_an_unknown_job(http):
    refused(http.get("/v1/jobs/job-none"), 404, "job-none", type="not_found")


def test_the_base_of_an_adapter_is_corrected_without_another_upload(http, endpoint, stranger):
    job = upload(http, "of-another", EXAMPLES / "pirate", base_model="models/smollm2")
    assert f"fits {BASE}" in job["status_updates"][-1]["message"]
    path, body = f"/v1/endpoints/{endpoint['id']}/adapters", {"model_id": f"{endpoint['name']}:tester/of-another"}
    answer = http.post(path, json=body)
    refused(answer, 400, "adapter base model is not compatible with endpoint model")
    assert answer.json()["message"] == "adapter base model is not compatible with endpoint model"
    detail = answer.json()["error"]["detail"]
    for word in ("models/smollm2", BASE, f"loradock models update tester/of-another --base-model {BASE}", "PATCH"):
        assert word in detail
    where = "/v1/models/tester%2Fof-another"
    refused(http.patch(where, json={"base_model": "a:b"}), 400, "is not a valid model name")
    assert http.patch(where, json={}).status_code == 400
    refused(stranger.patch(where, json={"base_model": BASE}), 404, "Could not find model", type="not_found")
    corrected = http.patch(where, json={"base_model": BASE}).json()
    assert (corrected["id"], corrected["base_model"]) == ("tester/of-another", BASE)
    assert corrected["message"] == f"shapes agree with {BASE}"
    assert http.post(path, json=body).status_code == 200
    refused(http.patch(where, json={"base_model": "a/b"}), 400, f"attached to {endpoint['name']}")
    http.request("DELETE", path, json=body)


def test_an_adapter_of_too_large_a_rank_is_told_the_command_that_raises_the_limit(http, endpoint):
    assert http.patch(f"/v1/endpoints/{endpoint['id']}", json={"max_lora_rank": 8}).status_code == 200
    upload(http, "large", EXAMPLES / "json")
    body = {"model_id": f"{endpoint['name']}:tester/large"}
    answer = http.post(f"/v1/endpoints/{endpoint['id']}/adapters", json=body)
    refused(answer, 400, "16 > 8", f"loradock endpoints update {endpoint['name']} --max-lora-rank 16")
