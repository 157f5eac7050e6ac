"""Caches of keys and values. A new one is a new file here and one import below."""

from redvtp.caching.base import CACHES, CachePolicy, KeyValueCache, Moment, get, register
from redvtp.caching.dllm_cache import DLLMCache
from redvtp.caching.fast_dllm import FastDLLM
from redvtp.caching.prefix_dlm import PrefixDLM

__all__ = ["CACHES", "CachePolicy", "DLLMCache", "FastDLLM", "KeyValueCache", "Moment", "PrefixDLM", "get", "register"]
