"""Who is told when a night fails."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from dagster_project.jobs import failure_sensors, nightly_job, nightly_schedule
from dagster_project.settings import Settings


@pytest.fixture
def webhook():
    """A real server on this machine that keeps what it is sent; refuses the first call, as servers do."""
    told: list[dict] = []
    answers = [503]

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = answers.pop() if answers else 200
            if status == 200:
                told.append(json.loads(body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", told
    server.shutdown()


def test_a_failed_run_is_told_to_the_webhook_even_if_it_refuses_at_first(tmp_path, webhook):
    address, told = webhook
    settings = Settings(home=tmp_path, webhook_url=address)

    @dg.op
    def stop():
        raise ValueError("a gate stopped it")

    @dg.job
    def night():
        stop()

    with dg.DagsterInstance.ephemeral() as instance:
        result = night.execute_in_process(instance=instance, raise_on_error=False)
        (run_failed, _) = failure_sensors(settings)
        context = dg.build_run_status_sensor_context(
            sensor_name="run_failed",
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            dagster_event=result.get_run_failure_event(),
        )
        run_failed(context)
    (message,) = told
    assert message["run_id"] == result.run_id
    assert "failed" in message["text"]
    assert "last release stays" in message["text"]


def test_the_schedule_is_off_until_somebody_switches_it_on_and_speaks_paris_time(tmp_path):
    schedule = nightly_schedule(Settings(home=tmp_path), nightly_job())
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 2 * * *", "Europe/Paris")
