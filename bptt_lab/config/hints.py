"""What somebody means who types a key of torch's, Lightning's or another framework's."""

# nn.RNN's keywords at their defaults, which say nothing that is not so.
_AS_IT_IS = (
    *("model.bidirectional=false", "model.batch_first=false"),
    *("model.device=null", "model.dtype=null", "model.device=none", "model.dtype=none"),
)
# By what is meant: the last part of a key, or the whole of it.
_MEANT = {
    "dataset.chunk_length, with gradient=truncated for how far credit flows": (
        "truncated_bptt_steps tbptt_steps tbptt bptt bptt_steps bptt_len"
    ),
    "gradient=truncated gradient.k=...": "k lag truncation",
    "gradient=...": "strategy rule algorithm",
    "device=gpu, or device=ddp_cpu device.devices=... for several processes": (
        "gpus gpu cuda num_gpus num_nodes num_processes trainer.strategy ddp model.device"
    ),
    "optimizer.lr": "lr learning_rate learningrate step_size",
    "optimizer=...": "optim",
    "dataset.batch_size": "batch_size bs batchsize train_batch_size per_device_train_batch_size",
    "trainer.max_epochs": "max_epochs epochs epoch num_epochs n_epochs num_train_epochs",
    "trainer.max_steps": "max_steps steps iterations max_iters",
    "trainer.max_time": "max_time time_limit",
    "schedule=cosine, or step, exponential, plateau": (
        "scheduler lr_scheduler lr_schedule optimizer.schedule trainer.schedule"
    ),
    "schedule.warmup_steps": "warmup warmup_steps warm_up num_warmup_steps",
    "trainer.accumulate_grad_batches": "gradient_accumulation_steps accumulation accumulate",
    "trainer.gradient_clip_val": (
        "clip grad_clip clip_grad clip_grad_norm max_grad_norm gradient_clip grad_norm clip_val"
    ),
    "trainer.ema_decay": "ema ema_decay swa averaging weight_averaging",
    "trainer.precision": "dtype amp fp16 bf16",
    "model.hidden_size": "hidden_dim hidden n_hidden hidden_units units d_model rnn_size nhid",
    "model.num_layers": "layers n_layers nlayers depth",
    "model.nonlinearity": "activation act phi",
    "dataset=...": "task data",
    "dataset.path": "data_dir data_path datadir root file filename",
    "dataset.num_steps": "seq_len seq_length seqlen sequence_length max_length",
    "dataset.train_size": "limit_train_batches num_samples",
    "num_threads": "num_workers workers cpus",
    "resume=FOLDER": "resume_from_checkpoint ckpt_path ckpt checkpoint resume_from",
    "hydra.run.dir=outputs/...": "output_dir outdir logdir log_dir save_dir default_root_dir",
    "dry_run=true": "fast_dev_run debug",
    "early_stopping.patience": "patience trainer.early_stopping",
}
_NOT_HERE = {
    "bidirectional": "states run forward only, so leave it out",
    "batch_first": "data are time first, so leave it out",
    "deterministic": "a run is deterministic as it is; leave it out",
    "val_check_interval": "a run is validated once an epoch; leave it out",
    "check_val_every_n_epoch": "a run is validated once an epoch; leave it out",
}
_BY_NAME = {name: meant for meant, names in _MEANT.items() for name in names.split()}


def says_nothing(line: str) -> bool:
    """Whether an override sets a keyword of nn.RNN's, which we lack, to what holds anyway."""
    return line.lstrip("+").lower() in _AS_IT_IS


def hint(key: str) -> str | None:
    """Return what to do in place of a key that there is not; None for one that nobody knows."""
    leaf = key.rpartition(".")[2].lower()
    meant = _BY_NAME.get(key.lower(), _BY_NAME.get(leaf))
    return f"did you mean {meant}?" if meant and meant != key else _NOT_HERE.get(leaf)
