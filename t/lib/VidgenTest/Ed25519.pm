package VidgenTest::Ed25519;

# A key pair for signatures by Ed25519, made and used by openssl.
#
#   my $key = VidgenTest::Ed25519->new;
#   $key->public;                      # 32 bytes
#   $key->sign($text);                 # 64 bytes
#   $key->jwk(kid => 'a');             # a member of a key set, as data

use strict;
use warnings;

use File::Temp ();
use MIME::Base64 qw(encode_base64url);

use VidgenTest::Util qw(slurp spew);


sub new {
    my ($class) = @_;

    my $dir = File::Temp->newdir('vidgen-key-XXXXXXXX', TMPDIR => 1);
    my $self = bless { dir => $dir }, $class;

    $self->_openssl(qw(genpkey -algorithm ed25519 -out key));
    $self->_openssl(qw(pkey -in key -pubout -outform DER -out public));
    $self->{public} = substr slurp("$dir/public"), -32;
    return $self;
}

sub public { $_[0]{public} }

sub jwk {
    my ($self, %more) = @_;
    return { kty => 'OKP', crv => 'Ed25519',
        x => encode_base64url($self->{public}), %more };
}

sub sign {
    my ($self, $text) = @_;
    spew("$self->{dir}/text", $text);
    $self->_openssl(qw(pkeyutl -sign -rawin -inkey key -in text
        -out signature));
    return slurp("$self->{dir}/signature");
}

sub _openssl {
    my ($self, @arguments) = @_;
    local $?;
    system("cd $self->{dir} && openssl @arguments >log 2>&1") == 0
        or die 'openssl: ' . (slurp("$self->{dir}/log") // '');
}


1;
