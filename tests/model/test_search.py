import pytest
import torch
from conftest_model import batch_for, lively_model
