"""A relay between a browser and a server that can break the connection."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress


class Relay:
    """Passes connections to its `port` on to the port `to`, and counts what comes back."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.to = 0
        self.sent = 0  # bytes to the browser
        self.asked: list[str] = []  # paths
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked.partition("?")[0] == path for asked in self.asked)

    def cut(self) -> None:
        """Break all connections."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of all."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                browser.close()
                continue
            self._open += [browser, server]
            for pair in ((browser, server), (server, browser)):
                self._threads.append(threading.Thread(target=self._pass_on, args=pair))
                self._threads[-1].start()

    def _pass_on(self, source: socket.socket, goal: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if goal.getpeername()[1] == self.to:
                    self.asked += re.findall(r"^[A-Z]+ (\S+) HTTP", data.decode("latin-1"))
                else:
                    self.sent += len(data)
                goal.sendall(data)
        for one in (source, goal):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
