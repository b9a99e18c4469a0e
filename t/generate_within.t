#!/usr/bin/perl

# A generation whose subrequest (a mirror) is a generation too: the second is
# refused, for they would share the values and keys of one provider, and the
# first is answered.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 5;

use VidgenTest::Books qw(balance customer wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Sql;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $alpha = VidgenTest::Provider->new(prefix => 'alpha');
my $beta = VidgenTest::Provider->new(prefix => 'beta');

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, ALPHA => $alpha->url,
        BETA => $beta->url },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";

    vidgen_provider alpha {
        base %%ALPHA%%;
        submit { url $vidgen_base/submit; job_id /request_id; }
    }
    vidgen_provider beta {
        base %%BETA%%;
        submit { url $vidgen_base/submit; job_id /request_id; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /both { mirror /one; vidgen_generate alpha; }
        location = /one { vidgen_generate beta; }
    }
}
EOT

my $db = VidgenTest::Sql->new($pg);
my $user = customer($db, 10);

my $answer = post($nginx->url('/both'), { user_id => $user, model_id => 'm',
    prompt => 'p' });

is($answer->{status}, 200, 'the client has its answer');
is(@{ $alpha->requests } + @{ $beta->requests }, 1, 'one provider was asked');
is($db->value("SELECT count(*) FROM vidgen.attempts
    WHERE state <> 'accepted'"), 0, 'nothing is left open');
is(balance($db, $user), 9, 'it was paid once');
is_deeply([wrong_books($db)], [], 'the books are right');
