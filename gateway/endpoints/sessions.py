from starlette.routing import Route

from gateway.http import Api


def routes(api: Api) -> list[Route]:
    return []
