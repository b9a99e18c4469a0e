#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "core/ngx_vidgen_url.h"
#include "http/ngx_http_vidgen_conf_pass.h"


static ngx_http_core_loc_conf_t *ngx_http_vidgen_pass_location(
    ngx_http_vidgen_location_t *location);
static ngx_http_core_loc_conf_t *ngx_http_vidgen_pass_find(
    ngx_http_location_tree_node_t *node, ngx_str_t *name);
static ngx_module_t *ngx_http_vidgen_pass_module(ngx_conf_t *cf);
static ngx_int_t ngx_http_vidgen_pass_unsafe(ngx_conf_t *cf,
    ngx_http_core_loc_conf_t *pass, ngx_str_t *name);
static ngx_int_t ngx_http_vidgen_pass_host(ngx_conf_t *cf,
    ngx_http_core_loc_conf_t *pass, ngx_vidgen_provider_t *provider);
static ngx_int_t ngx_http_vidgen_pass_origin(ngx_conf_t *cf,
    ngx_vidgen_provider_t *provider, ngx_str_t *host);
static ngx_uint_t ngx_http_vidgen_pass_upstream(ngx_conf_t *cf,
    ngx_str_t *host);


ngx_int_t
ngx_http_vidgen_check_pass(ngx_conf_t *cf,
    ngx_http_vidgen_location_t *location, ngx_array_t *candidates)
{
    ngx_str_t                  *name;
    ngx_uint_t                  i;
    ngx_vidgen_provider_t     **provider;
    ngx_http_core_loc_conf_t   *pass;

    name = &location->conf->pass;
    pass = ngx_http_vidgen_pass_location(location);

    if (pass == NULL || pass->handler == NULL || !pass->internal) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" needs the internal location \"%V\" of"
                           " \"vidgen_pass\" in this server: include"
                           " vidgen_pass.conf there",
                           &location->directive, name);
        return NGX_ERROR;
    }

    if (ngx_http_vidgen_pass_unsafe(cf, pass, name) != NGX_OK) {
        return NGX_ERROR;
    }

    provider = candidates->elts;

    for (i = 0; i < candidates->nelts; i++) {
        if (ngx_http_vidgen_pass_host(cf, pass, provider[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* among those of the server, whatever block the directive is in */
static ngx_http_core_loc_conf_t *
ngx_http_vidgen_pass_location(ngx_http_vidgen_location_t *location)
{
    ngx_http_core_srv_conf_t  *cscf;
    ngx_http_core_loc_conf_t  *root;

    cscf = location->ctx->srv_conf[ngx_http_core_module.ctx_index];
    root = cscf->ctx->loc_conf[ngx_http_core_module.ctx_index];

    return ngx_http_vidgen_pass_find(root->static_locations,
                                     &location->conf->pass);
}


static ngx_http_core_loc_conf_t *
ngx_http_vidgen_pass_find(ngx_http_location_tree_node_t *node, ngx_str_t *name)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (node == NULL) {
        return NULL;
    }

    clcf = node->exact ? node->exact : node->inclusive;

    if (ngx_vidgen_text_same(&clcf->name, name)) {
        return clcf;
    }

    clcf = ngx_http_vidgen_pass_find(node->left, name);

    if (clcf == NULL) {
        clcf = ngx_http_vidgen_pass_find(node->right, name);
    }

    if (clcf == NULL) {
        clcf = ngx_http_vidgen_pass_find(node->tree, name);
    }

    return clcf;
}


static ngx_int_t
ngx_http_vidgen_pass_unsafe(ngx_conf_t *cf, ngx_http_core_loc_conf_t *pass,
    ngx_str_t *name)
{
    char                      *why;
    ngx_module_t              *proxy;
    ngx_http_upstream_conf_t  *upstream;

    proxy = ngx_http_vidgen_pass_module(cf);
    upstream = proxy ? pass->loc_conf[proxy->ctx_index] : NULL;

    if (upstream == NULL) {
        why = "there is no \"proxy_pass\"";

    } else if (upstream->upstream) {
        why = "it does not pass to \"$vidgen_url\"";

    } else if (upstream->next_upstream
               & NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT)
    {
        why = "\"proxy_next_upstream non_idempotent\" would send a paid"
              " request twice";

    } else if (!upstream->ignore_client_abort) {
        why = "without \"proxy_ignore_client_abort on\" a client that leaves"
              " would cut a paid request";

    } else if (!(upstream->ignore_headers & NGX_HTTP_UPSTREAM_IGN_XA_REDIRECT))
    {
        why = "without \"proxy_ignore_headers X-Accel-Redirect\" a provider"
              " could read internal locations";

    } else if (upstream->intercept_errors) {
        why = "\"proxy_intercept_errors on\" would hide what the provider"
              " answered";

    } else {
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "location \"%V\" of \"vidgen_pass\" is unsafe: %s",
                       name, why);

    return NGX_ERROR;
}


/*
 * The proxy module is found by its name: its location configuration begins
 * with an ngx_http_upstream_conf_t, which names an upstream unless proxy_pass
 * has variables.
 */
static ngx_module_t *
ngx_http_vidgen_pass_module(ngx_conf_t *cf)
{
    ngx_uint_t     i;
    ngx_module_t  *module;

    for (i = 0; cf->cycle->modules[i]; i++) {
        module = cf->cycle->modules[i];

        if (ngx_strcmp(module->name, "ngx_http_proxy_module") == 0) {
            return module;
        }
    }

    return NULL;
}


/* whether nginx will be able to find the host that submit's URL names */
static ngx_int_t
ngx_http_vidgen_pass_host(ngx_conf_t *cf, ngx_http_core_loc_conf_t *pass,
    ngx_vidgen_provider_t *provider)
{
    ngx_str_t  host;
    ngx_url_t  u;

    if (pass->resolver && pass->resolver->connections.nelts) {
        return NGX_OK;
    }

    if (ngx_http_vidgen_pass_origin(cf, provider, &host) != NGX_OK
        || ngx_http_vidgen_pass_upstream(cf, &host))
    {
        return NGX_OK;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = host;
    u.default_port = 80;
    u.no_resolve = 1;

    if (ngx_parse_url(cf->pool, &u) == NGX_OK && u.naddrs) {
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "host \"%V\" of provider \"%V\" cannot be resolved:"
                       " define a \"resolver\", or an \"upstream\" of that"
                       " name", &host, &provider->name);

    return NGX_ERROR;
}


/* host[:port] of submit's URL; NGX_DECLINED: only known per request */
static ngx_int_t
ngx_http_vidgen_pass_origin(ngx_conf_t *cf, ngx_vidgen_provider_t *provider,
    ngx_str_t *host)
{
    size_t                  len;
    ngx_str_t               url;
    ngx_uint_t              i;
    ngx_vidgen_source_t     source;
    ngx_vidgen_template_t  *template;

    template = &provider->submit->request.url;

    if (template->foreign) {
        url = provider->base;

    } else {
        ngx_memzero(&source, sizeof(ngx_vidgen_source_t));

        for (i = 0; i < NGX_VIDGEN_VALUES; i++) {
            ngx_str_set(&source.values[i], "x");
        }

        ngx_vidgen_provider_source(provider, &source);

        if (ngx_vidgen_template_fill(template, &source, cf->pool, &url)
            != NGX_OK)
        {
            return NGX_DECLINED;
        }
    }

    len = ngx_vidgen_url_origin(&url);

    if (len == 0) {
        return NGX_DECLINED;
    }

    host->data = ngx_strlchr(url.data, url.data + len, '/') + 2;
    host->len = url.data + len - host->data;

    return NGX_OK;
}


/* 1: an upstream{} block stands for that host */
static ngx_uint_t
ngx_http_vidgen_pass_upstream(ngx_conf_t *cf, ngx_str_t *host)
{
    ngx_uint_t                       i;
    ngx_http_upstream_srv_conf_t   **uscf;
    ngx_http_upstream_main_conf_t   *umcf;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscf = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {
        if ((uscf[i]->flags & NGX_HTTP_UPSTREAM_CREATE)
            && ngx_vidgen_text_same_name(&uscf[i]->host, host))
        {
            return 1;
        }
    }

    return 0;
}


/* where the proxy module keeps it is told by its table of directives */
void
ngx_http_vidgen_pass_certificate(ngx_conf_t *cf,
    ngx_http_vidgen_location_t *location, ngx_str_t *file)
{
    u_char                    *conf;
    ngx_module_t              *proxy;
    ngx_command_t             *cmd;
    ngx_http_core_loc_conf_t  *pass;

    ngx_str_null(file);

    proxy = ngx_http_vidgen_pass_module(cf);
    pass = ngx_http_vidgen_pass_location(location);

    if (proxy == NULL || pass == NULL) {
        return;
    }

    conf = pass->loc_conf[proxy->ctx_index];

    for (cmd = proxy->commands; cmd->name.len; cmd++) {

        if (cmd->set == ngx_conf_set_str_slot
            && ngx_strcmp(cmd->name.data, "proxy_ssl_trusted_certificate")
               == 0)
        {
            *file = *(ngx_str_t *) (conf + cmd->offset);
        }
    }
}
