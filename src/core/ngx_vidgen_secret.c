#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "core/ngx_vidgen_secret.h"


#define NGX_VIDGEN_SECRET_MAX  65536     /* bytes of a file */


static ngx_int_t ngx_vidgen_secret_env(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *value);
static ngx_int_t ngx_vidgen_secret_declare(ngx_conf_t *cf, ngx_str_t *name);
static ngx_int_t ngx_vidgen_secret_file(ngx_conf_t *cf, ngx_str_t *path,
    ngx_str_t *value);
static ssize_t ngx_vidgen_secret_load(ngx_conf_t *cf, ngx_str_t *path,
    ngx_fd_t fd, u_char *buf);


ngx_int_t
ngx_vidgen_secret_read(ngx_conf_t *cf, ngx_str_t *spec, ngx_str_t *value)
{
    ngx_str_t  rest;

    if (spec->len >= 4 && ngx_strncmp(spec->data, "env:", 4) == 0) {
        rest.len = spec->len - 4;
        rest.data = spec->data + 4;
        return ngx_vidgen_secret_env(cf, &rest, value);
    }

    if (spec->len >= 5 && ngx_strncmp(spec->data, "file:", 5) == 0) {
        rest.len = spec->len - 5;
        rest.data = spec->data + 5;
        return ngx_vidgen_secret_file(cf, &rest, value);
    }

    *value = *spec;

    return value->len ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_vidgen_secret_env(ngx_conf_t *cf, ngx_str_t *name, ngx_str_t *value)
{
    u_char  *p;

    if (name->len == 0
        || ngx_strlchr(name->data, name->data + name->len, '=') != NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "vidgen: \"env:\" wants the name of a variable");
        return NGX_ERROR;
    }

    if (ngx_vidgen_secret_declare(cf, name) != NGX_OK) {
        return NGX_ERROR;
    }

    /* the tokens of a configuration end with a NUL */

    p = (u_char *) getenv((char *) name->data);

    if (p == NULL || *p == '\0') {
        return NGX_DECLINED;
    }

    /* nginx moves its environment when it sets its title */

    value->len = ngx_strlen(p);
    value->data = ngx_pnalloc(cf->pool, value->len + 1);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(value->data, p, value->len + 1);

    return NGX_OK;
}


/* as the env directive: what is not declared is lost at a binary upgrade */

static ngx_int_t
ngx_vidgen_secret_declare(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_str_t        *var;
    ngx_uint_t        i;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);
    var = ccf->env.elts;

    for (i = 0; i < ccf->env.nelts; i++) {
        if (ngx_vidgen_text_same(&var[i], name)) {
            return NGX_OK;
        }
    }

    var = ngx_array_push(&ccf->env);
    if (var == NULL) {
        return NGX_ERROR;
    }

    *var = *name;

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_secret_file(ngx_conf_t *cf, ngx_str_t *path, ngx_str_t *value)
{
    u_char    *buf;
    ssize_t    n;
    ngx_fd_t   fd;

    if (ngx_conf_full_name(cf->cycle, path, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(path->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {

        if (ngx_errno == NGX_ENOENT) {
            return NGX_DECLINED;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", path);
        return NGX_ERROR;
    }

    buf = ngx_pnalloc(cf->temp_pool, NGX_VIDGEN_SECRET_MAX + 1);

    n = buf ? ngx_vidgen_secret_load(cf, path, fd, buf) : NGX_ERROR;

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", path);
    }

    if (n == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (n > 0 && buf[n - 1] == LF) {
        n--;

        if (n > 0 && buf[n - 1] == CR) {
            n--;
        }
    }

    value->len = n;
    value->data = ngx_pnalloc(cf->pool, n + 1);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(value->data, buf, n);

    return n ? NGX_OK : NGX_DECLINED;
}


static ssize_t
ngx_vidgen_secret_load(ngx_conf_t *cf, ngx_str_t *path, ngx_fd_t fd,
    u_char *buf)
{
    size_t   len;
    ssize_t  n;

    len = 0;

    do {
        n = ngx_read_fd(fd, buf + len, NGX_VIDGEN_SECRET_MAX + 1 - len);

        if (n == -1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                               ngx_read_fd_n " \"%V\" failed", path);
            return NGX_ERROR;
        }

        len += n;

    } while (n > 0 && len <= NGX_VIDGEN_SECRET_MAX);

    if (len > NGX_VIDGEN_SECRET_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "vidgen: \"%V\" is too large for a secret", path);
        return NGX_ERROR;
    }

    return len;
}
