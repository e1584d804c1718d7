"""Flower's SecAgg+ client on the vector that `cohortium-bench mpc` measures.

Drives `secaggplus_mod`, what a Flower client puts around its training, in this process and without a network: clients
are contexts, messages are those that the server's workflow makes, with its default quantisation. One client is
measured, in processor seconds of the whole process; what the others do meanwhile is not counted.

Before anything is measured, one round goes all the way with every client and is opened: the mean must be the vector.
Then every line on standard input is one round, and is answered by one line of JSON.
Usage: flower_secagg.py CLIENTS THRESHOLD ELEMENTS
"""

import json
import logging
import os
import sys
import time

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.common.serde import recorddict_to_proto
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.supercore.task_identity import TaskIdentity

CONFIGS = "secaggplus_configs"
# The defaults of SecAggPlusWorkflow.
CLIPPING, LEVELS, MODULUS, MAX_WEIGHT = 8.0, 1 << 22, 1 << 32, 1000.0


def vector(elements):
    """Level i * 2654435761 modulo 2^22, as the number in [-8, 8) that has this level."""
    levels = np.arange(elements, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(LEVELS)
    return (levels.astype(np.float64) / LEVELS * 2 * CLIPPING - CLIPPING).astype(np.float32)


class Clients:
    def __init__(self, count, threshold, elements):
        self.threshold = threshold
        # Identifiers are 64-bit numbers, as the ones that Flower's server draws.
        self.ids = [(1 << 62) + 7919 * index for index in range(count)]
        self.contexts = {nid: Context(1, nid, {}, RecordDict(), {}) for nid in self.ids}
        self.vector = vector(elements)

    def call(self, nid, configs):
        """One stage at one client: its answer, what that weighs as protobuf, and the processor seconds it took."""
        record = RecordDict({CONFIGS: ConfigRecord(configs)})
        message = Message(record, dst_node_id=nid, message_type="train", group_id="1")
        trained = None
        if configs["stage"] == "collect_masked_vectors":
            result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([self.vector]), int(MAX_WEIGHT), {})
            trained = Message(fitres_to_recorddict(result, True), reply_to=message)
        start = time.process_time()
        reply = secaggplus_mod(message, self.contexts[nid], lambda _message, _context: trained)
        seconds = time.process_time() - start
        weight = recorddict_to_proto(reply.content).ByteSize()
        return dict(reply.content.config_records[CONFIGS]), weight, seconds

    def stage(self, name, configs, who):
        """A stage at some clients, each with its configuration: answers, and weight and seconds of the first client."""
        answers = {nid: self.call(nid, {"stage": name} | configs(nid)) for nid in who}
        _, weight, seconds = answers[self.ids[0]]
        return {nid: answer[0] for nid, answer in answers.items()}, weight, seconds

    def play(self, who):
        """A round, in which only `who` go beyond the shares."""
        settings = {
            "sample_num": len(self.ids),
            "share_num": len(self.ids),
            "threshold": self.threshold,
            "clipping_range": CLIPPING,
            "target_range": LEVELS,
            "mod_range": MODULUS,
            "max_weight": MAX_WEIGHT,
        }
        keys, *setup = self.stage("setup", lambda _: settings, self.ids)
        public = {str(nid): [answer["pk1"], answer["pk2"]] for nid, answer in keys.items()}
        dealt, *share = self.stage("share_keys", lambda _: public, self.ids)
        masked, *collect = self.stage("collect_masked_vectors", lambda nid: forwarded(dealt, nid), who)
        alive = {"active_nids": self.ids, "dead_nids": []}
        opened, *unmask = self.stage("unmask", lambda _: alive, who)
        costs = {"setup": setup, "share_keys": share, "collect": collect, "unmask": unmask}
        return masked, opened, {name: {"bytes": cost[0], "seconds": cost[1]} for name, cost in costs.items()}

    def check(self):
        """Opens a whole round, as the server does, and compares."""
        masked, opened, _ = self.play(self.ids)
        arrays = [[bytes_to_ndarray(array) for array in answer["masked_params"]] for answer in masked.values()]
        total = [sum(parts) for parts in zip(*arrays)]
        for nid in self.ids:
            shares = [dict(zip(answer["nids"], answer["shares"]))[nid] for answer in opened.values()]
            mask = pseudo_rand_gen(combine_shares(shares), MODULUS, [part.shape for part in total])
            total = [part - taken for part, taken in zip(total, mask)]
        factor, levels = (part % MODULUS for part in total)
        if factor[0] != len(self.ids) * LEVELS:
            sys.exit("flower_secagg.py: the weights do not add up")
        mean = dequantize([levels / len(self.ids)], CLIPPING, LEVELS)[0]
        # Every value is a level, so that nothing is rounded.
        if np.abs(mean - self.vector).max() > 1e-9:
            sys.exit("flower_secagg.py: the opened mean is not the vector")

    def quantisation(self):
        """What turning numbers into levels takes, which is part of the third stage."""
        start = time.process_time()
        quantize([self.vector * 1.0], CLIPPING, LEVELS)
        return time.process_time() - start


def forwarded(dealt, nid):
    """The sealed shares for one client."""
    sources, sealed = [], []
    for source, answer in dealt.items():
        for to, ciphertext in zip(answer["dsts"], answer["ctxts"]):
            if to == nid:
                sources.append(source)
                sealed.append(ciphertext)
    return {"srcs": sources, "ctxts": sealed}


def main():
    # What the runtime sets in a process that makes messages.
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    # Its client warns of every round after the first.
    logging.getLogger("flwr").setLevel(logging.ERROR)
    clients = Clients(*map(int, sys.argv[1:]))
    clients.check()
    print(json.dumps({"checked": True}), flush=True)
    for _ in sys.stdin:
        _, _, stages = clients.play(clients.ids[:1])
        print(json.dumps({"stages": stages, "quantisation": clients.quantisation()}), flush=True)


main()
