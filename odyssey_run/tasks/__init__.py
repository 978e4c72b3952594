"""What ``odyssey-run task=NAME`` does; `odyssey_run.config.registries` lists the tasks."""
