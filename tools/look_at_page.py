#!/usr/bin/env python3
"""Looks at the page of the metrics port in Chromium, as people would.

  python3 tools/look_at_page.py --axe axe.min.js build/page

Starts a server without models, loads some, quantizes them, asks them much, and
leaves pictures of the page in each state: of a desktop and of a phone, light and
dark. Ends with 1 if the page said anything to the console, asked anybody but its
server, is wider than the screen, has a fault that axe finds, can't be walked by
keyboard, or loses what is unfolded or has the focus while nothing changes.

Needs Debian's chromium, PyPI's websocket-client, and axe.min.js of npm's axe-core
(npm pack axe-core); without --axe that check is left out.
"""
import argparse
import base64
import contextlib
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import websocket

from ounce_server import OunceServer

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCREENS = {'desktop': (1280, 900, 1, False), 'phone': (390, 844, 2, True), 'narrow': (320, 640, 2, True)}


class Browser:
    """One page of a Chromium without a window, by the DevTools protocol."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            ['chromium', '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run',
             '--hide-scrollbars', '--disable-background-networking', '--disable-component-update',
             '--disable-dev-shm-usage', '--remote-debugging-port=0', '--remote-allow-origins=*',
             f'--user-data-dir={folder}', 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = pathlib.Path(folder) / 'DevToolsActivePort'
        wait('Chromium', lambda: port_file.exists() and port_file.read_text().count('\n') >= 1)
        port = port_file.read_text().split()[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f'http://127.0.0.1:{port}/json') as reply:
            pages = [page for page in json.load(reply) if page['type'] == 'page']
        self.socket = websocket.create_connection(
            pages[0]['webSocketDebuggerUrl'], timeout=60, http_no_proxy=['127.0.0.1'])
        self.ids = itertools.count(1)
        self.complaints = []
        self.hosts = set()
        self.quiet = False  # what is logged now is meant to be
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.ask(f'{domain}.enable')

    def close(self):
        self.process.terminate()
        self.process.wait()

    def ask(self, method, **params):
        number = next(self.ids)
        self.socket.send(json.dumps({'id': number, 'method': method, 'params': params}))
        while True:
            message = json.loads(self.socket.recv())
            self.hear(message)
            if message.get('id') == number:
                if 'error' in message:
                    raise RuntimeError(f'{method}: {message["error"]}')
                return message['result']

    def hear(self, message):
        method, params = message.get('method'), message.get('params', {})
        if method == 'Network.requestWillBeSent':
            self.hosts.add(params['request']['url'].split('/')[2])
        if self.quiet:
            return
        if method == 'Log.entryAdded' and params['entry']['level'] in ('warning', 'error'):
            self.complaints.append(params['entry']['text'])
        elif method == 'Runtime.exceptionThrown':
            self.complaints.append(json.dumps(params['exceptionDetails'])[:500])
        elif method == 'Runtime.consoleAPICalled' and params['type'] in ('warning', 'error'):
            self.complaints.append(json.dumps(params['args'])[:500])

    def evaluate(self, expression):
        result = self.ask('Runtime.evaluate', expression=expression, awaitPromise=True,
                          returnByValue=True)
        if 'exceptionDetails' in result:
            raise RuntimeError(json.dumps(result['exceptionDetails'])[:800])
        return result['result'].get('value')

    def emulate(self, screen, dark=False, still=True):
        width, height, scale, mobile = SCREENS[screen]
        self.ask('Emulation.setDeviceMetricsOverride', width=width, height=height,
                 deviceScaleFactor=scale, mobile=mobile)
        self.ask('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'},
            {'name': 'prefers-reduced-motion', 'value': 'reduce' if still else 'no-preference'}])

    def picture(self, path):
        size = self.ask('Page.getLayoutMetrics')['cssContentSize']
        clip = {'x': 0, 'y': 0, 'width': size['width'], 'height': min(size['height'], 12000),
                'scale': 1}
        data = self.ask('Page.captureScreenshot', captureBeyondViewport=True, clip=clip)['data']
        path.write_bytes(base64.b64decode(data))


def wait(what, ready, seconds=60):
    end = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() > end:
            sys.exit(f'waited {seconds} s for {what}')
        time.sleep(0.1)
    return found


class Ounce(OunceServer):
    """A server, and the command line against it."""

    def __init__(self, build):
        super().__init__(build / 'ounce-server', cwd=ROOT)
        self.build = build

    def run(self, *words, check=True):
        return subprocess.run(
            [self.build / 'ounce', *words, '--server', self.inference, '--admin', self.admin],
            cwd=ROOT, check=check, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if not check else None)


@contextlib.contextmanager
def load(ounce, streams):
    """Requests without end, from some threads."""
    stop = threading.Event()

    def generate():
        while not stop.is_set():
            ounce.run('generate', 'code', 'class Stack:', '--max_new_tokens', '300', check=False)

    def detect():
        while not stop.is_set():
            ounce.run('detect', 'shapes', 'embedded/detr-tiny/examples/shapes-400x300.png',
                      check=False)

    threads = [threading.Thread(target=generate) for _ in range(streams)]
    threads.append(threading.Thread(target=detect))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Looker:
    def __init__(self, browser, url, out, axe):
        self.browser, self.url, self.out, self.axe = browser, url, out, axe
        self.faults = []

    def until(self, what, expression):
        wait(what, lambda: self.browser.evaluate(expression))

    def look(self, name, screens=('desktop', 'phone'), check=True):
        for screen in screens:
            for dark in (False, True):
                self.browser.emulate(screen, dark)
                time.sleep(0.2)
                kind = f'{name}-{screen}-{"dark" if dark else "light"}'
                self.browser.picture(self.out / f'{kind}.png')
                if check:
                    self.check(kind)
        if not check:
            return
        self.browser.emulate('narrow')
        self.check(f'{name}-narrow')

    def check(self, kind):
        over = self.browser.evaluate(
            'document.documentElement.scrollWidth - document.documentElement.clientWidth')
        if over > 0:
            self.faults.append(f'{kind}: {over} px wider than the screen')
        if self.axe is None:
            return
        self.browser.evaluate(self.axe)
        found = self.browser.evaluate(
            'axe.run().then((r) => r.violations.map((v) => v.id + ": " + v.nodes.slice(0, 3)'
            '.map((n) => n.html.slice(0, 150) + " " + n.failureSummary).join(" | ")))')
        self.faults += [f'{kind}: {fault}' for fault in found]

    def walk(self):
        """By keyboard alone, from the top; says where that leads."""
        self.browser.emulate('desktop')
        self.browser.evaluate('document.activeElement.blur(); scrollTo(0, 0)')
        stops = []
        for _ in range(200):
            for kind in ('keyDown', 'keyUp'):
                self.browser.ask('Input.dispatchKeyEvent', type=kind, key='Tab', code='Tab',
                                 windowsVirtualKeyCode=9)
            stop = self.browser.evaluate(
                '(() => { const e = document.activeElement; if (e === document.body) return null;'
                ' const s = getComputedStyle(e); return [e.tagName.toLowerCase(),'
                ' (e.getAttribute("aria-label") ?? e.textContent).trim().slice(0, 50),'
                ' s.outlineStyle !== "none" && s.outlineWidth !== "0px"]; })()')
            if stop is None:
                break
            stops.append(stop)
        print('by keyboard:', '; '.join(f'{tag} "{text}"' for tag, text, _ in stops))
        self.faults += [f'no outline on {tag} "{text}"' for tag, text, seen in stops if not seen]
        folds = self.browser.evaluate(
            'document.querySelectorAll("summary").length')
        if sum(tag == 'summary' for tag, _, _ in stops) != folds:
            self.faults.append(f'not all of {folds} folds are reached by keyboard')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('out', type=pathlib.Path, help='folder for the pictures')
    parser.add_argument('--build', type=pathlib.Path, default=ROOT / 'build/release')
    parser.add_argument('--axe', type=pathlib.Path, help='axe.min.js')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    axe = args.axe.read_text() + '; undefined' if args.axe else None
    with contextlib.ExitStack() as ends:
        folder = ends.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        ounce = ends.enter_context(Ounce(args.build.resolve()))
        browser = Browser(folder + '/browser')
        ends.callback(browser.close)
        url = f'http://{ounce.metrics}/'
        looker = Looker(browser, url, args.out, axe)

        browser.ask('Emulation.setScriptExecutionDisabled', value=True)
        browser.ask('Page.navigate', url=url)
        time.sleep(1)
        for dark in (False, True):
            browser.emulate('phone', dark)
            browser.picture(args.out / f'no-script-phone-{"dark" if dark else "light"}.png')
        browser.ask('Emulation.setScriptExecutionDisabled', value=False)
        browser.ask('Page.navigate', url=url)
        looker.until('the page', 'document.querySelector(".link.serving") !== null')
        looker.look('none')

        ounce.run('load', 'code', 'embedded/codegen-tiny')
        ounce.run('load', 'shapes', 'embedded/detr-tiny')
        looker.until('two models', 'document.querySelectorAll(".model .body:not([hidden])").length === 2')
        looker.look('before')

        with load(ounce, 3):
            ounce.run('quantize', 'code', '--plan',
                      'lm_head=linear *.mlp.*=linear:bits=4,granularity=group linear', '--probe')
            ounce.run('quantize', 'shapes', 'linear', '--convolutions', '--probe')
            time.sleep(30)  # for the curves
            looker.until('both', 'document.querySelectorAll(".errors").length === 2')
            looker.look('load', check=False)
        looker.look('after')
        looker.walk()
        browser.evaluate('document.querySelectorAll("details").forEach((d) => { d.open = true; '
                         'd.dataset.mine = "1"; }); document.querySelector(".scroll").focus()')
        time.sleep(7)  # some answers
        if not browser.evaluate('[...document.querySelectorAll("details")].every((d) => d.open &&'
                                ' d.dataset.mine === "1") && document.activeElement.matches(".scroll")'):
            looker.faults.append('folds or the focus were lost while nothing changed')
        looker.look('tables')

        ounce.run('quantize', 'code', 'linear:bits=2', '--probe', '--max_kl', '0.05', check=False)
        ounce.run('quantize', 'shapes', 'linear:bits=4', '--dry_run')
        for i in range(36):
            ounce.run('quantize', 'code', ['gguf-q4_0', 'float16', 'bnb-nf4', 'linear'][i % 4])
        ounce.run('quantize', 'code', 'linear:bits=2', '--probe', '--max_kl', '0.05', check=False)
        name = 'Salesforce-codegen-350M-mono-with-a-name-as-long-as-a-name-may-b'
        ounce.run('load', name, 'embedded/codegen-tiny', '--method', 'bnb-nf4')
        for i in range(5):
            ounce.run('load', f'other-{i}', 'embedded/detr-tiny', '--method', 'linear')
        looker.until('all', 'document.querySelectorAll(".model .body:not([hidden])").length === 8')
        time.sleep(2.5)
        looker.look('many')

        browser.quiet = True
        ounce.close()
        looker.until('the end', 'document.querySelector(".link.lost") !== null')
        looker.look('gone', screens=('desktop',), check=False)

        faults = looker.faults + [f'console: {text}' for text in browser.complaints]
        if browser.hosts != {ounce.metrics}:
            faults.append(f'asked {browser.hosts}')
        print('\n'.join(faults) or 'no faults')
        sys.exit(1 if faults else 0)


if __name__ == '__main__':
    main()
