"""Speak serving protocols from both ends, for targets over HTTP and for the guard."""

from memberscope.wire.answers import DeclaredOutputs, parse_outputs, simplify_class_name
from memberscope.wire.batch import Batch, build_request_batch
from memberscope.wire.credentials import Credential, TransportSettings
from memberscope.wire.endpoint import Endpoint
from memberscope.wire.json_path import (
    Step,
    build_document,
    describe_json,
    merge_documents,
    parse_path,
    pick_value,
)
from memberscope.wire.protocols import (
    OpenInference,
    ServingProtocol,
    TemplatedJSON,
    fill_template,
    read_list,
)
from memberscope.wire.server_connection import ServerConnection
from memberscope.wire.tensors import cast_tensor_values, read_input_tensors, read_tensor_array
from memberscope.wire.text_answers import TokenAnswer, TokenPrompt, check_token_answer
from memberscope.wire.text_endpoint import TextEndpoint
from memberscope.wire.text_protocols import (
    TEXT_PROTOCOLS,
    Sampling,
    TextProtocol,
    build_generation_request,
    join_server_path,
    read_generations,
)

__all__ = [
    "TEXT_PROTOCOLS",
    "Batch",
    "Credential",
    "DeclaredOutputs",
    "Endpoint",
    "OpenInference",
    "Sampling",
    "ServerConnection",
    "ServingProtocol",
    "Step",
    "TemplatedJSON",
    "TextEndpoint",
    "TextProtocol",
    "TokenAnswer",
    "TokenPrompt",
    "TransportSettings",
    "build_document",
    "build_generation_request",
    "build_request_batch",
    "cast_tensor_values",
    "check_token_answer",
    "describe_json",
    "fill_template",
    "join_server_path",
    "merge_documents",
    "parse_outputs",
    "parse_path",
    "pick_value",
    "read_generations",
    "read_input_tensors",
    "read_list",
    "read_tensor_array",
    "simplify_class_name",
]
