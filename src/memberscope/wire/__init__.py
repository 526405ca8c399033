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
from memberscope.wire.tensors import cast_tensor_values, read_input_tensors, read_tensor_array

__all__ = [
    "Batch",
    "Credential",
    "DeclaredOutputs",
    "Endpoint",
    "OpenInference",
    "ServingProtocol",
    "Step",
    "TemplatedJSON",
    "TransportSettings",
    "build_document",
    "build_request_batch",
    "cast_tensor_values",
    "describe_json",
    "fill_template",
    "merge_documents",
    "parse_outputs",
    "parse_path",
    "pick_value",
    "read_input_tensors",
    "read_list",
    "read_tensor_array",
    "simplify_class_name",
]
