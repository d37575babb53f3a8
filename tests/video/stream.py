"""A real MJPEG-over-HTTP camera on the loopback, which can stall, close and return."""

import contextlib
import http.server
import itertools
import socketserver
import threading
import time

import cv2
import numpy as np

BOUNDARY = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
TYPE = "multipart/x-mixed-replace; boundary=frame"


class Camera:
    """What the server sends.

    Args:
        images: uint8 RGB pictures, repeated without end.
        rate: frames per second.
    """

    def __init__(self, images, rate):
        self.jpegs = [
            cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()
            for image in images
        ]
        self.rate = rate
        # When each frame was sent, by `time.monotonic`.
        self.sent = []
        self.connections = 0
        # Set: nothing is sent, but the connection stays.
        self.stalled = threading.Event()
        # Set: connections are closed, and new ones are refused with an error.
        self.closed = threading.Event()
        self.url = ""

    def stream(self, write):
        start = time.monotonic()
        for count, jpeg in enumerate(itertools.cycle(self.jpegs)):
            if self.closed.is_set():
                return
            while self.stalled.is_set():
                time.sleep(0.01)
            write(BOUNDARY % len(jpeg) + jpeg + b"\r\n")
            self.sent.append(time.monotonic())
            time.sleep(max(0.0, start + (count + 1) / self.rate - time.monotonic()))


@contextlib.contextmanager
def serve(images, rate=25.0):
    """Serves a camera until the context ends; yields it."""
    camera = Camera(images, rate)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            camera.connections += 1
            if camera.closed.is_set():
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", TYPE)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                camera.stream(self.wfile.write)

        def log_message(self, *args):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    camera.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield camera
    finally:
        camera.closed.set()
        camera.stalled.clear()
        server.shutdown()
        server.server_close()
