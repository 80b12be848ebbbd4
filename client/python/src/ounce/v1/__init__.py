"""The contract's messages and stubs, made by protoc from proto/ounce/v1.

``inference_pb2`` and ``model_admin_pb2`` have the messages, whose comments are in
the .proto files beside them; ``inference_pb2_grpc`` and ``model_admin_pb2_grpc``
have stubs for programs that want gRPC itself.
"""
