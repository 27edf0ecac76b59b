"""/v1/embeddings of conversations, on a server with a template and a key."""

import numpy as np
import pytest

MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "cat"}]
RENDERED = "user: hello\nassistant: cat\n"


def vectors(servers, status=200, **body):
    headers = {"Authorization": "Bearer sekret"}
    response = servers("auth").post("/v1/embeddings", body, headers=headers)
    assert response.status_code == status, response.text
    if status != 200:
        return response.json()["error"]["message"]
    return np.array([one["embedding"] for one in response.json()["data"]])


def test_messages_are_the_rendered_text_without_special_tokens(servers):
    chat = vectors(servers, messages=MESSAGES)
    text = vectors(servers, input=RENDERED, add_special_tokens=False)
    np.testing.assert_allclose(chat, text, atol=1e-6)
    np.testing.assert_allclose(vectors(servers, input=MESSAGES), text, atol=1e-6)


def test_flags(servers):
    prompt = vectors(servers, messages=MESSAGES, add_generation_prompt=True)
    wanted = vectors(servers, input=RENDERED + "assistant:", add_special_tokens=False)
    np.testing.assert_allclose(prompt, wanted, atol=1e-6)
    going_on = vectors(servers, messages=MESSAGES, continue_final_message=True)
    wanted = vectors(servers, input="user: hello\nassistant: cat", add_special_tokens=False)
    np.testing.assert_allclose(going_on, wanted, atol=1e-6)
    special = vectors(servers, messages=MESSAGES, add_special_tokens=True)
    np.testing.assert_allclose(special, vectors(servers, input=RENDERED), atol=1e-6)
    both = {"add_generation_prompt": True, "continue_final_message": True}
    assert "Cannot set both" in vectors(servers, 400, messages=MESSAGES, **both)


def test_what_is_cut_is_content_and_not_the_end_of_the_template(servers):
    cut = {"truncate_prompt_tokens": 10, "add_generation_prompt": True}
    messages = [{"role": "user", "content": "hello " * 50}]
    chat = vectors(servers, messages=messages, **cut)
    text = f"user: {' '.join(['hello'] * 6)}\nassistant:"
    np.testing.assert_allclose(
        chat, vectors(servers, input=text, add_special_tokens=False), atol=1e-6
    )
    headers = {"Authorization": "Bearer sekret"}
    body = {"messages": [messages, MESSAGES], **cut}
    said = servers("auth").post("/v1/embeddings", body, headers=headers).headers
    assert said["x-truncated"] == "1"


def test_several_conversations(servers):
    one, two = MESSAGES, [{"role": "user", "content": "dog"}]
    batch = vectors(servers, messages=[one, two])
    alone = [vectors(servers, messages=m)[0] for m in (one, two)]
    np.testing.assert_allclose(batch, alone, atol=1e-5)


def test_parts_of_text(servers):
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "world"}]
    chat = vectors(servers, messages=[{"role": "user", "content": parts}])
    text = vectors(servers, input="user: hello\nworld\n", add_special_tokens=False)
    np.testing.assert_allclose(chat, text, atol=1e-6)
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    refusal = vectors(servers, 400, messages=[{"role": "user", "content": image}])
    assert refusal == "first is not a multimodal model"


def test_templates_of_requests_are_not_trusted(servers):
    own = {"messages": MESSAGES, "chat_template": "{{ messages[0].content }}"}
    assert "untrusted chat template" in vectors(servers, 400, **own)


@pytest.mark.parametrize(
    "messages, text",
    [([], "You must pass at least one prompt"), ([[]], "cannot be empty")],
)
def test_nobody_says_anything(servers, messages, text):
    assert text in vectors(servers, 400, messages=messages)


def test_null_is_no_conversation_to_tokenize(servers):
    headers = {"Authorization": "Bearer sekret"}

    def tokenize(**body):
        return servers("auth").post("/tokenize", body, headers=headers)

    alone = tokenize(messages=MESSAGES).json()["tokens"]
    assert tokenize(messages=MESSAGES, prompt=None).json()["tokens"] == alone
    refused = tokenize(messages=None)
    assert refused.status_code == 400 and "Field required" in refused.json()["error"]["message"]


def test_without_a_template(servers):
    response = servers("minilm").post("/v1/embeddings", {"messages": MESSAGES})
    assert response.status_code == 400
    assert "default chat template is no longer allowed" in response.json()["error"]["message"]
